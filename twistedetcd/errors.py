"""
errors: everything a client or an operator can be told, in one table.

A client matches on the gRPC code and on every letter of the message, so both are facts of the wire.
Source of the texts: upstream's api/v3rpc/rpctypes/error.go and server/etcdserver/api/v3rpc/util.go.

Yours to change: add an error; raise it anywhere.
Never: build a status text anywhere else.
Imports nothing of ours; everybody may import it.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """gRPC status codes, by their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class EtcdError(Exception):
    """A request was refused.  ``code`` and ``message`` are what the client sees."""

    code: Code = Code.UNKNOWN
    message: str = ""

    def __init__(self, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        super().__init__(self.message)


class EmptyKeyError(EtcdError):
    """A key was left empty, in a request or anywhere inside a transaction."""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: key is not provided"


class KeyNotFoundError(EtcdError):
    """ignore_value or ignore_lease needs a key that exists; also an operation that asks for nothing."""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: key not found"


class ValueProvidedError(EtcdError):
    """ignore_value together with a value."""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: value is provided"


class LeaseProvidedError(EtcdError):
    """ignore_lease together with a lease."""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: lease is provided"


class TooManyOpsError(EtcdError):
    """More operations than ``--max-txn-ops``, counted along a path of nested transactions."""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: too many operations in txn request"


class DuplicateKeyError(EtcdError):
    """One branch of a transaction writes a key twice, or writes one that it also deletes."""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: duplicate key given in txn request"


class InvalidSortOptionError(EtcdError):
    """A sort order or target whose number means nothing."""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid sort option"


class CompactedError(EtcdError):
    """Asked below the compact revision; ask again at it or later."""

    code = Code.OUT_OF_RANGE
    message = "etcdserver: mvcc: required revision has been compacted"


class FutureRevisionError(EtcdError):
    """Asked above the current revision."""

    code = Code.OUT_OF_RANGE
    message = "etcdserver: mvcc: required revision is a future revision"


class RequestTooLargeError(EtcdError):
    """The proposal is above ``--max-request-bytes``."""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: request is too large"


class TooManyRequestsError(EtcdError):
    """
    The member has as much unfinished work as it accepts.

    The code is UNKNOWN because upstream's is: its table points at the wrong value (see the reference table).
    """

    code = Code.UNKNOWN
    message = "etcdserver: too many requests"


class LeaseNotFoundError(EtcdError):
    """The lease does not exist."""

    code = Code.NOT_FOUND
    message = "etcdserver: requested lease not found"


class LeaseExistError(EtcdError):
    """A lease of that id is there already."""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: lease already exists"


class LeaseTTLTooLargeError(EtcdError):
    """More than 9,000,000,000 seconds."""

    code = Code.OUT_OF_RANGE
    message = "etcdserver: too large lease TTL"


class NotPrimaryError(EtcdError):
    """The member stopped leading while a renewal waited.  Upstream has no code for it."""

    code = Code.UNKNOWN
    message = "not a primary lessor"


class MemberExistError(EtcdError):
    """A member of the id that the new one would get is there already."""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: member ID already exist"


class PeerURLExistError(EtcdError):
    """Another member has one of the peer URLs."""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: Peer URLs already exists"


class MemberNotEnoughStartedError(EtcdError):
    """
    The change would leave too few members that ever started to make a quorum.

    The code is UNKNOWN because upstream's is: its table points at the wrong value (see the reference table).
    """

    code = Code.UNKNOWN
    message = "etcdserver: re-configuration failed due to not enough started members"


class MemberBadURLsError(EtcdError):
    """The peer URLs of a new member are none, or not such that members could reach each other by them."""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: given member URLs are invalid"


class MemberNotFoundError(EtcdError):
    """There is no member of that id, or there was one and it was removed: its id never comes back."""

    code = Code.NOT_FOUND
    message = "etcdserver: member not found"


class MemberNotLearnerError(EtcdError):
    """The member to promote votes already."""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: can only promote a learner member"


class LearnerNotReadyError(EtcdError):
    """The learner to promote has too little of the leader's log."""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: can only promote a learner member which is in sync with leader"


class TooManyLearnersError(EtcdError):
    """There are ``--max-learners`` already."""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: too many learner members in cluster"


class UnhealthyError(EtcdError):
    """Too few members were connected lately for a change of membership to be safe."""

    code = Code.UNAVAILABLE
    message = "etcdserver: unhealthy cluster"


class BadLeaderTransfereeError(EtcdError):
    """Leadership cannot go to that member: there is none of that id, or it is a learner."""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: bad leader transferee"


class NotLeaderError(EtcdError):
    """Only the leader can do that, and this member is not."""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: not leader"


class BadAnswerError(EtcdError):
    """Another member was asked something, or asks, in a way that this one does not understand."""

    code = Code.INTERNAL
    message = "twistedetcd: a member of this cluster speaks in a way that another does not understand"


class MemberRemovedError(EtcdError):
    """A message from who is no member any more, or is told so itself; its process ends in good order."""

    code = Code.FAILED_PRECONDITION
    message = "the member has been permanently removed from the cluster"


class NotSupportedForLearnerError(EtcdError):
    """A learner serves only serializable ranges, and what it knows of itself."""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: rpc not supported for learner"


class NoLeaderError(EtcdError):
    """The caller asked for a member with a leader, and there is none."""

    code = Code.UNAVAILABLE
    message = "etcdserver: no leader"


class LeaderChangedError(EtcdError):
    """Leadership moved while a read waited."""

    code = Code.UNAVAILABLE
    message = "etcdserver: leader changed"


class TimeoutError(EtcdError):
    """The request was not committed, or the read not confirmed, in time."""

    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out"


class NeverProposedError(TimeoutError):
    """A request was not even proposed in time: there was no leader from its beginning on."""

    code = Code.DEADLINE_EXCEEDED
    message = "context deadline exceeded"


class LeaderFailedError(TimeoutError):
    """A request was not committed in time, and there was no leader for a part of it."""

    message = "etcdserver: request timed out, possibly due to previous leader failure"


class ConnectionLostError(TimeoutError):
    """A request was not committed in time: this member cannot reach the leader, or the leader the others."""

    message = "etcdserver: request timed out, possibly due to connection lost"


class TransferTooSlowError(EtcdError):
    """Leadership did not move in time."""

    message = "etcdserver: request timed out, leader transfer took too long"


class AppliedTooSlowlyError(EtcdError):
    """What was committed when a lease was asked about was not applied in time."""

    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out, waiting for the applied index took too long"


class EmptyWatchRangeError(EtcdError):
    """A watch's range ends before it begins; told in the response, the stream goes on."""

    message = "mvcc: watcher range is empty"


class DuplicateWatchIDError(EtcdError):
    """The watch id is in use on its stream; told in the response, the stream goes on."""

    message = "mvcc: duplicate watch ID provided on the WatchStream"


class UnreadResponsesError(EtcdError):
    """A stream's client asks on and on, and reads nothing."""

    code = Code.RESOURCE_EXHAUSTED
    message = "twistedetcd: too many responses unread on this stream"


class SessionExpiredError(EtcdError):
    """One who waited for a lock has lost its place: its lease ended, or somebody deleted its key."""

    message = "mutex: session is expired"


class ElectionNotLeaderError(EtcdError):
    """The candidate does not lead: it was not elected, has resigned, or its lease ended."""

    message = "election: not leader"


class ElectionNoLeaderError(EtcdError):
    """There is no candidate."""

    message = "election: no leader"


class MissingLeaderKeyError(EtcdError):
    """A request about a leader does not say which."""

    message = '"leader" field must be provided'


class StoppedError(EtcdError):
    """The member is stopping."""

    code = Code.UNAVAILABLE
    message = "etcdserver: server stopped"


class InvalidClientAPIVersionError(EtcdError):
    """Metadata ``client-api-version`` is not valid UTF-8."""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid client api version"


class UnknownServiceNameError(EtcdError):
    """The health service was asked about a service other than the empty one."""

    code = Code.NOT_FOUND
    message = "unknown service"


class SnapshotBrokenOffError(EtcdError):
    """The engine refused to be read while a client was sent a snapshot; the log of the member says why."""

    code = Code.INTERNAL
    message = "twistedetcd: the snapshot broke off, since the store could not be read"


class UnsupportedError(EtcdError):
    """A method of etcd's API that this version does not serve yet."""

    code = Code.UNIMPLEMENTED


# What an operator is told: one sentence, and the process ends with status 1.


class MemberError(Exception):
    """The member cannot start or go on; the text is one sentence for the operator."""


class BackendError(MemberError):
    """The storage engine refused: locked, unreadable, full, or of another format."""


class WALError(MemberError):
    """The log cannot be used; the text names the file."""


class WALCorruptError(WALError):
    """A record that was once durable does not read back: file and offset are in the text."""


class WALSnapshotError(WALError):
    """The log does not vouch for a snapshot: it has no record of it that was committed, or begins later."""


class WALClosedError(WALError):
    """The log was closed, or an earlier save failed."""


class SnapshotImageError(MemberError):
    """The image of a store cannot be used; the text names the file, and page and reason."""


class ConfigError(MemberError):
    """Flags that cannot work together; ends the process with status 1."""


class UsageError(ConfigError):
    """A flag that is not known or does not parse; ends the process with status 2, as upstream's does."""
