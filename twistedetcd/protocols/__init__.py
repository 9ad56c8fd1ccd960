"""
protocols: bytes in, calls out.

HTTP/2 and gRPC for any Twisted application, which have not heard of etcd.  Each knows only those before it:

- ``huffman``, ``hpack``: header blocks (RFC 7541);
- ``framing``, ``fields``: the words and rules of RFC 9113;
- ``floods``, ``keepalive``: what a client may do how often, and how long it lives;
- ``sending``, ``control``, ``requests``, ``http2``: one connection, without I/O;
- ``metadata``, ``compression``, ``calls``, ``asking``, ``grpc``: the calls on it, without I/O;
- ``turn``, ``writing``, ``connection``, ``port``: the way of the bytes in and out;
- ``handlers``: functions as methods;
- ``certificates``, ``refusals``, ``tls``, ``handshakes``: TLS for either side of any connection, and
  before a port.

And the way from member to member, which carries raft's messages, and is the only part here that knows them:

- ``complaints``, ``pages``: what is logged of others, and a page that is got from them;
- ``frames``: what members say, without I/O;
- ``waiting``, ``peer``, ``dialing``, ``known``: one connection, one that is made again, and what is known of
  a peer;
- ``imaging``, ``questions``: stores on their way, and what is asked beside raft;
- ``peerport``, ``peers``: who knocks, and all of it together.

``docs/grpc.md`` is the page for those who use this without etcd.

Yours to change: limits (each has a name), new kinds of call.
With care: the loop in ``http2.receive`` and ``grpc.Connection``: every request goes through them.
Never: an import of etcd's rooms, but of ``raft``'s values and ``wire`` in the second half.
Imported by service, which hands in the handlers.
"""
