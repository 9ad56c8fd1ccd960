"""
schema: what is on the disk, and which room owns it.

Names and encodings are etcd's own, so that a snapshot can be carried from one to the other.  A directory:

    <data-dir>/member/wal/      the log; owned by wal/
    <data-dir>/member/snap/     raft snapshots, *.snap, and images of whole stores, *.snap.db; owned by snap/.
                                The backend's files, named by the engine; owned by backends/

Yours to change: add a bucket or a key, with its owner.
Never: the meaning of one that has been released.
"""

from __future__ import annotations

KEY = b"key"
"""mvcc: record key (`mvcc.revision`) → ``mvccpb.KeyValue``; written once, removed by compaction."""

META = b"meta"
"""What the state machine knows of itself; each key below belongs to one room."""

CONSISTENT_INDEX = b"consistent_index"  # server: index of the last applied entry, 8 bytes big-endian
TERM = b"term"  # server: its term, 8 bytes big-endian
CONF_STATE = b"confState"  # server: JSON of raftpb.ConfState
SCHEDULED_COMPACT = b"scheduledCompactRev"  # mvcc: a compaction that was accepted: 17-byte revision
FINISHED_COMPACT = b"finishedCompactRev"  # mvcc: one whose records are gone: 17-byte revision
STORAGE_VERSION = b"storageVersion"  # server: text
INSTALLING = b"installing"  # snap: there while an image replaces the store: its index, 8 bytes big-endian

MEMBERS = b"members"
"""cluster: member id in lower-case hex → JSON of the member."""

MEMBERS_REMOVED = b"members_removed"
"""cluster: the id of a member that was removed, in lower-case hex → ``removed``; kept for ever."""

CLUSTER = b"cluster"
"""cluster: see the key."""

CLUSTER_VERSION = b"clusterVersion"  # text, "3.6.0"

LEASE = b"lease"
"""lease: lease id, 8 bytes big-endian → ``leasepb.Lease``."""

IMAGE_BUCKETS = (
    b"alarm",
    b"auth",
    b"authRoles",
    b"authUsers",
    CLUSTER,
    KEY,
    LEASE,
    MEMBERS,
    b"members_removed",
    META,
)
"""snap: the buckets that an image has, ascending; etcd has all of them, also those that are empty."""

STORAGE_FORMAT = b"3.6.0"
