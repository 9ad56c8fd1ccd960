"""
raft: who leads, what the log holds, and how much of it is committed.

A pure state machine after etcd's raft: ticks, messages and proposals in; one `Ready` at a time out, which
says what to save, what to send and what to apply.  ``node.py`` is the door, ``roles.py`` the table of who
hears what.

Yours to change: a message (``types.py``) with its row in ``roles.py`` and its reaction beside it.
With care: ``quorum.py``, ``log.py`` and ``election.py``; a wrong line there loses acknowledged writes.
Never: I/O, a clock, a random number (``Config.draw`` is handed in), the iteration order of a set.
May import ``twistedetcd.errors``.  Imported by wire, wal, cluster, server and testing.

Inside, imports point down: node; admission; roles; acknowledged; follower, candidate, leader; membership,
election; replication; reads; state; log, unstable; storage; confchange, readonly; tracker; progress; quorum;
describe; types.
"""
