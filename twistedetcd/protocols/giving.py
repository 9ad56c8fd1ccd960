"""
Letting others have the processor.

A process that is woken by what we send is often put on our processor, where it waits until we sleep.  So who
has answered, and has work left that nobody waits for, gives way first.  With a processor for each that costs
a system call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeAlias

from twistedetcd.patience import Patience

LONG_SECONDS = 0.001
"""Who waits for us goes on, and sleeps, in a fraction of this.  Where it takes longer, on average, others
have work of their own, and would make us wait for all of their turn;"""
LONG_PAUSE_SECONDS = 10.0
"""for so long there is no giving way then."""


GiveWay: TypeAlias = Callable[[], None]
"""Called between what others wait for and what nobody does."""


def keep_on() -> None:
    """Give no way."""


class GivingWay:
    """
    A `GiveWay` among processes.

    Args:
        seconds: The time; of the machine, as the processes are.
        others: Lets them run, and returns when it is our turn again.
    """

    def __init__(
        self, seconds: Callable[[], float] = time.monotonic, others: Callable[[], object] = os.sched_yield
    ) -> None:
        self._seconds = seconds
        self._others = others
        self._patience = Patience(LONG_SECONDS, LONG_PAUSE_SECONDS)

    def __call__(self) -> None:
        began = self._seconds()
        if began < self._patience.lost_until:
            return
        self._others()
        now = self._seconds()
        self._patience.took(now - began, now)
