"""
snap: raft snapshots, where a restart begins to read the log.

``files.py`` keeps them in files of etcd's format; ``memory.py`` is for tests.  Each keeps
`twistedetcd.interfaces.ISnapshotter`.

Yours to change: where else snapshots are kept.
With care: what is durable in which order; a snapshot counts only once the log has its record.
Never: the bytes on disk (they are etcd's), or the removal of a snapshot that a start may need.
Imports interfaces, errors, raft's types and wire.  Imported by disk and testing.
"""
