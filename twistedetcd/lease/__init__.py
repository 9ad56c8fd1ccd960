"""
lease: keys that go when their owner does.

A lease has a time to live; keys are attached to it, and it takes them with it.  What leases there are, and
which keys they have, is replicated.  When they end is the leader's business alone: it counts on its own clock
and has a lease revoked through the log; nothing ends a lease but that entry.

Yours to change: how what is due is found.
With care: what is counted from when; a lease must not end before what its owner was told.
Never: a clock (the time is an argument), a random number.
May import interfaces, errors, schema and pb.  Imported by apply, server and api.
"""
