"""
mvcc: keys over time.

A revision is (main, sub): each write transaction takes the next main revision, each change in it the next
sub.  Every change is a record that is never altered; the index in memory says which record is a key's at a
given revision.

Yours to change: how the index is packed, how slow work is sliced.
With care: what a compaction keeps; upstream's tools compare hashes of it.
Never: a clock, a thread, a file.
May import interfaces, errors, schema and pb.  Imported by apply, server and api.
"""
