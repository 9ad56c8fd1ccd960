"""
snap: raft snapshots, where a restart begins to read the log, and images of whole stores.

``files.py`` keeps raft snapshots in files of etcd's format; ``memory.py`` is for tests.  Each keeps
`twistedetcd.interfaces.ISnapshotter`.  An image is a store as one bbolt file (``bbolt/``); ``images.py``
takes in those that are sent to us, and ``install.py`` replaces a store by one.

Yours to change: where else snapshots are kept.
With care: what is durable in which order; a snapshot counts only once the log has its record, and a store
that is half replaced is marked.
Never: the bytes on disk (they are etcd's), or the removal of a snapshot that a start may need.
Imports interfaces, errors, schema, raft's types and wire.  Imported by disk and testing.
"""
