"""
vectors: conversations with raft as text, replayed letter for letter.

``python -m twistedetcd.testing.vectors DIR...`` runs every ``*.txt`` below the directories.  A file is a row
of *directives*: a command, perhaps its input, ``----``, and what the command must print.  The format is that
of etcd-io/raft's own test data, of all three kinds: whole clusters (`commands`), changes of a configuration
(`changes`) and quorums (`quorums`).  Which kind a file is of, its commands tell.

For what those files leave out, two commands and some options are our own: ``read-index ID WORD``,
``report-snapshot ID TO status=finish|failure``, and of ``add-nodes``: ``inflight-bytes``,
``max-size-per-msg``, ``max-uncommitted-size`` and ``disable-proposal-forwarding``.

Yours to change: a command (a function, and its line in the table of ``commands.py``).
With care: everything that prints; a letter more or less fails files that others wrote.
Never: an answer that does not come out of raft.
May import raft.  Imported by nobody but tests.

Inside, imports point down: __main__; replay; commands, changes, quorums; driving, delivery, nodes, proposing;
environment; rendering; syntax.
"""
