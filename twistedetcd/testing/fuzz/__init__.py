"""
fuzz: what nobody would send, sent to whatever reads bytes from outside.

``python -m twistedetcd.testing.fuzz`` runs every target, or one; a failure prints its seed, and the seed
replays it.  Everything is drawn from the seed: no coverage is measured, and nothing is kept between runs.

Yours to change: add a target, a module with a line in ``targets.py``.
With care: how a case is drawn from its seed; old seeds then mean other cases.
"""
