"""What happened in a simulation, line by line: the simulator's own events and raft's."""

from __future__ import annotations


class Transcript:
    """
    The lines of one run.  Kept only when asked for: a run without one is the same run, only faster.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._step = 0

    def begin_step(self, number: int) -> None:
        """What follows belongs to step ``number``."""
        self._step = number

    def note(self, text: str) -> None:
        """An event of the simulator."""
        self.lines.append(f"{self._step:5} {text}")

    def trace(self, level: str, text: str, /, **fields: object) -> None:
        """An event of raft: the hook of `twistedetcd.raft.config.Config`."""
        self.lines.append(f"{self._step:5}     {level} {text.format(**fields)}")

    def tail(self, count: int) -> str:
        """The last ``count`` lines."""
        return "\n".join(self.lines[-count:])
