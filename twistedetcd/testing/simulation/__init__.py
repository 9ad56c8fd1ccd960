"""
simulation: whole servers in one process, on one clock and one seed; disks, clocks and network misbehave.

``run.py`` puts a run together: a cluster of machines (``cluster.py``, ``machine.py``), clients that use all
that is served (``clients.py``, ``watchers.py``), and what goes wrong (``nemesis.py``).  In the end everything
is mended, and `twistedetcd.testing.checks` says whether what the clients saw is allowed.  The members tell
what they apply (``chronicle.py``).  ``python -m twistedetcd.testing.simulate --seed N`` replays a seed.

Yours to change: what clients do (``ACTIONS``), what goes wrong (``KINDS``).
With care: what a crash leaves, and when what was done in a thread is known: tamer than the world finds
nothing.
Never: a clock, a random number that is not drawn from the seed, the iteration order of a set.
May import everything.

Inside, imports point down: run; ending, nemesis; watchers, clients; requests; caller; calls; cluster;
chronicle, machine; life; threads, journal; world; transcript.
"""
