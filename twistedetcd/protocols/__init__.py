"""
protocols: bytes in, calls out.

HTTP/2 and gRPC for any Twisted application; nothing here has heard of etcd.  Each knows only those before it:

- ``huffman``, ``hpack``: header blocks (RFC 7541);
- ``framing``, ``fields``: the words and rules of RFC 9113;
- ``floods``, ``keepalive``: what a client may do how often, and how long it lives;
- ``sending``, ``control``, ``requests``, ``http2``: one connection, without I/O;
- ``metadata``, ``compression``, ``calls``, ``asking``, ``grpc``: the calls on it, without I/O;
- ``turn``, ``writing``, ``connection``, ``port``: the way of the bytes in and out;
- ``handlers``: functions as methods;
- ``certificates``, ``refusals``, ``tls``, ``handshakes``: TLS for either side of any connection, and
  before a port.

``docs/grpc.md`` is the page for those who use this without etcd.

Yours to change: limits (each has a name), new kinds of call.
With care: the loop in ``http2.receive`` and ``grpc.Connection``: every request goes through them.
Never: an import of etcd's rooms.
Imported by service, which hands in the handlers.
"""
