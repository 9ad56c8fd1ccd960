"""
protocols: bytes in, calls out.

HTTP/2 and gRPC for any Twisted application; nothing here has heard of etcd.  ``hpack``, ``http2`` (what is
received), ``sending`` and ``grpc`` are state machines without I/O, ``connection`` carries bytes to and from
them, ``turn`` does once what one reactor turn brought.

Yours to change: limits (each has a name), new kinds of call.
With care: the loop in ``http2.receive`` and ``grpc.Connection``: every request goes through them.
Never: an import of etcd's rooms.
Imported by service, which hands in the handlers.
"""
