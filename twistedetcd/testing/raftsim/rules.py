"""What raft promises, each promise by its name."""

from __future__ import annotations

from enum import Enum


class Rule(Enum):
    """
    The promises that are checked after every call into a member.  The value says what holds.

    The first ten are about the whole cluster and its whole history, restarts included; the others about one
    member at a time.
    """

    ELECTION_SAFETY = "a term has one leader at most"
    LEADER_APPEND_ONLY = "a leader only adds to its log while it leads"
    LOG_MATCHING = "entries of one index and term are the same, and so is all before them"
    LEADER_COMPLETENESS = "who leads a later term holds all that was committed in earlier ones"
    STATE_MACHINE_SAFETY = "all members apply the same entries, each index once, in order"
    SINGLE_VOTE = "a member votes for one candidate a term, crashes or not"
    COMMIT_RULE = "a leader commits an entry of its own term that a quorum holds durably"
    COMMITTED_IS_FOREVER = "what is committed is never replaced"
    READS = "a read is answered with an index as new as anything committed before it began"
    CONFIGURATION_OVERLAP = "one configuration follows another only if their quorums meet"
    DURABLE_TERM = "terms never fall, neither in memory nor on the disk"
    INDEX_ORDER = "applied <= applying <= committed <= last index, and none of the first three falls"
    LOG_SHAPE = "indexes are contiguous, and terms do not fall along the log nor exceed the member's own"
    ROLE_AND_LEAD = "a leader leads itself, a candidate knows no leader, and there is no leader before term 1"
    WHO_CAMPAIGNS = "only voters campaign, and not while a snapshot is being installed"
    PRE_VOTE_IS_FREE = "being asked for a pre-vote changes neither term nor vote nor timers"
    PROGRESS = "what a leader believes of its members is possible, and counts nothing before it is durable"
    VOUCHING = "no answer leaves before what it vouches for is durable, and none goes to its sender"
    COMMIT_TOLD = (
        "nobody is told of a commit index that the teller, or for heartbeats the told, does not hold"
    )
    SNAPSHOT_SENT = "a snapshot is sent only for what is compacted, with the configuration at its index"
    READY_SHAPE = "entries are handed out to be saved without a gap, and a snapshot comes without commits"
    QUORUM_CHECK = "a leader that checks its quorum and does not hear from it steps down"
    CONFIGURATION_SHAPE = "a configuration is well-formed"
    STABLE_LOG = "what raft takes for saved is durable"
    OWN_VOTE = "who leads has its vote for itself on its disk"

    RAFT_ITSELF = "raft raises nothing but what it says it refuses"
    LIVENESS = (
        "a healed cluster elects a leader, commits, and leaves joint configurations that leave by themselves"
    )


class BrokenRuleError(AssertionError):
    """
    A promise was broken.

    Attributes:
        rule: Which.
    """

    def __init__(self, rule: Rule, text: str) -> None:
        super().__init__(f"{rule.name}: {text} (the rule: {rule.value})")
        self.rule = rule


def require(kept: bool, rule: Rule, text: str, *fields: object) -> None:
    """
    Raise a `BrokenRuleError` unless ``kept``.

    Args:
        kept: Whether the promise was kept here.
        rule: Which promise.
        text: What happened, with a ``{}`` for each field.
        fields: Formatted only when needed.
    """
    if not kept:
        raise BrokenRuleError(rule, text.format(*fields))
