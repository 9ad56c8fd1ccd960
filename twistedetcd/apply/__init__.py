"""
apply: a committed entry in, a result out.

Every member reaches the same state because all that decides an outcome happens here.

Yours to change: add a link to the chain (one module, one line in ``chain.py``); a kind of request.
With care: the order of the links; members of one cluster must agree on it.
Never: a clock, a random number, a flag that may differ between members.
May import mvcc, lease and cluster.  Imported by server and api.
"""
