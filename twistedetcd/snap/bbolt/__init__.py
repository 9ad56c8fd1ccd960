"""
bbolt: a whole store as one file of the format that etcd keeps its own in, made and read without bbolt.

``pages.py`` knows the bytes of a page, ``packing.py`` which records go into which page, ``writing.py`` makes
an image of any engine's view, and ``reading.py`` reads one that is not to be trusted.

Yours to change: how records are spread over pages, within what bbolt can go on from (see packing.py).
With care: the reader's checks and limits; a file may come from anywhere.
Never: the bytes; etcd and its tools read them.
Imports interfaces, errors and schema.  Imported by the rest of snap.
"""
