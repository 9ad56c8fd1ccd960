"""
checks: is what the clients saw allowed?

What clients asked and were told goes into a `History`; `check` says what of it breaks etcd's promises.  It
makes no difference how the calls were made: in a simulation, in an application's own tests, over a network.

Most can be told with a `Witness` besides: every change that was committed, read from a member that has them
all (a watch from revision 1 will do).  Then each answer is compared with what a model says at its revision,
and each revision must be some request's effect.  A witness that begins later, after a compaction, with the
records that lived then, settles what came after.  For all before, and without a witness, only this can be
concluded: no revision has two writes, revisions never contradict the order of the calls, a record looks the
same to everybody, and no read shows a key older than an acknowledged write of it.

Times are numbers on one clock of the one who records.  What has equal times counts as having happened at
once, and may have been in either order: where a clock stands still, a counter is the sharper clock, except
for leases, which need seconds.

Yours to change: a rule, with a test that breaks it; another kind of request in ``attempt.py``.
With care: whatever is allowed for want of knowledge, in ``linearizable.py`` and ``leases.py``; too much, and
nothing is found.
Never: anything that a correct server may do, reported.
May import pb and errors.

Inside, imports point down: check; linearizable, monotonic, watches, leases, locks, durability, hashes;
explaining, unwitnessed; wanted, timeline; effects; model; attempt; ranges; outcomes; history; rules.
"""

from twistedetcd.testing.checks.check import check
from twistedetcd.testing.checks.history import Change, History, Operation, Refused, Unknown, Watch, Witness
from twistedetcd.testing.checks.outcomes import outcome
from twistedetcd.testing.checks.rules import Rule, Violation

__all__ = [
    "Change",
    "History",
    "Operation",
    "Refused",
    "Rule",
    "Unknown",
    "Violation",
    "Watch",
    "Witness",
    "check",
    "outcome",
]
