"""
api: one module per gRPC service: validate, ask the member, answer.

Yours to change: add an RPC: a method here, a line in ``methods.py``, a handler in ``apply/store.py`` if it
writes.
With care: the order of checks; clients see which one refused first.
Never: a status text (``errors.py`` has them all).
May import server and what is below it.  Imported by service.
"""
