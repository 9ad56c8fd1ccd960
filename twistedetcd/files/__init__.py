"""
files: the part of a file system that the log and the snapshots stand on.

One module per file system: ``local.py`` is the operating system's, ``simulated.py`` one that crashes.
Each keeps `twistedetcd.interfaces.IFiles`, and only that is known elsewhere.

Yours to change: add a file system.
With care: what is durable when; the log's promises rest on it.
Never: retry a failed sync, or decide what a file means.
Imports interfaces only.  Imported by service and testing, which hand an instance to wal and snap.
"""
