"""
bench: how fast a member is, beside etcd on the same machine in one run.

``python -m twistedetcd.testing.bench --help`` lists the options.  `rows` is the table of what is measured,
`measure` runs one row and decides whether the run counts, `report` writes the figures down.  `load` starts
the generators: ``h2load``, and for clients whose headers change on every call our own (`generator`).
`raft` stands apart: what the raft core costs by itself, with no process but its own.

Yours to change: a row (one line in ``rows.py``), a column of the report.
With care: what makes a run invalid; a figure nobody checked is worse than none.
Never: a request whose answer is not checked, or a setting that only one of the two servers gets and that
makes it faster.
May import everything.  Imported by nobody.
"""
