"""
wal: the write-ahead log, what a member must remember before it answers.

``record.py`` turns records into bytes and ``scanner.py`` bytes into records (neither does I/O);
``segments.py`` names, fills and prepares the files; ``reading.py`` replays them; ``opening.py`` makes a log,
locks one, and repairs its end; ``log.py`` is the log.  ``memory.py`` is a log for tests.

Yours to change: when and where the next segment is prepared.
With care: what is written and synced in which order; every step must survive a crash before and after it.
Never: the bytes on disk (they are etcd's), or a repair of what was once durable.
Imports interfaces, errors, raft's types and wire.  Imported by disk and testing.
"""
