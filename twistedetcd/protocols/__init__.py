"""
protocols: bytes in, calls out.

HTTP/2 and gRPC for any Twisted application; nothing here has heard of etcd.  Upwards, each knowing only
those before it: ``huffman`` and ``hpack`` (header blocks), ``framing`` and ``fields`` (RFC 9113's words and
rules), ``floods`` and ``keepalive`` (what a client may do how often, and how long it lives), ``sending``,
``control``, ``requests`` and ``http2`` (one connection, without I/O), ``metadata``, ``calls``, ``asking``
and ``grpc`` (calls on it, without I/O), ``turn``, ``connection`` and ``port`` (the bytes' way in and out),
``handlers`` (functions as methods).  ``docs/grpc.md`` is the page for those who use it without etcd.

Yours to change: limits (each has a name), new kinds of call.
With care: the loop in ``http2.receive`` and ``grpc.Connection``: every request goes through them.
Never: an import of etcd's rooms.
Imported by service, which hands in the handlers.
"""
