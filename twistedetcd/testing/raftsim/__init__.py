"""
raftsim: clusters of pure raft members on a network and on disks that lie, all from one seed.

``simulation.py`` throws the dice, ``actions.py`` says what may happen, and after every call into a member
``watch.py`` and ``history.py`` check what raft promises (``rules.py``).  A failure names its seed, and the
seed replays it: ``python -m twistedetcd.testing.raftsim --seed N``.

Yours to change: an action with its weight, a profile, a counter.
With care: the members' duties (``syncmember.py``, ``asyncmember.py``): exactly the order that raft asks
for and no more, or the simulation is tamer than the world.
Never: a clock, a random number that is not drawn from the seed, the iteration order of a set.
May import raft.

Inside, imports point down: __main__; simulation; actions; scenes, changes; cluster; syncmember, asyncmember;
member; application, watch; vouching, leading; world; network, disk, history; profile; transcript; rules.
"""
