"""
cluster: who belongs to it, and what they agreed to be.

Yours to change: what is kept of a member.
With care: how ids are computed; they name members for ever.  What refuses a change: all members must agree.
Never: a clock (a time that goes into an id is an argument).
May import raft, schema, config, interfaces and errors.  Imported by apply, server, api and disk.
"""
