"""
server: one member.

Proposals go in, raft orders them, the log keeps them, the applier carries them out, and whoever waits is
answered; everything that one reactor turn brought, at once.

Yours to change: limits, timers.
With care: the order save → send → apply → advance in ``raftnode.py``; what the consistent index says of a
batch in ``committer.py``.
Never: an implementation of a contract; ``service.py`` hands those in.
May import apply and what is below it.  Imported by api and service.
"""
