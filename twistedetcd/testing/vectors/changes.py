"""Files about one configuration, and what changes make of it."""

from __future__ import annotations

from twistedetcd.raft.confchange import Changer
from twistedetcd.raft.describe import describe
from twistedetcd.raft.errors import ConfChangeError, InvariantError
from twistedetcd.raft.progress import Inflights, Progress
from twistedetcd.raft.types import ConfState
from twistedetcd.testing.vectors.proposing import parse_changes
from twistedetcd.testing.vectors.syntax import CommandError, Directive, VectorError, boolean

COMMANDS = frozenset({"simple", "enter-joint", "leave-joint"})


class Changes:
    """Runs the directives of one file."""

    def __init__(self) -> None:
        self._configuration = ConfState()
        self._members: dict[int, Progress] = {}
        self._window = Inflights(10)
        self._last = 0

    def handle(self, directive: Directive) -> str:
        """The configuration from now on and everybody's progress, or why nothing changed."""
        try:
            return self._change(directive)
        except (CommandError, ConfChangeError, InvariantError) as error:
            return str(error)
        finally:
            self._last += 1

    def _change(self, directive: Directive) -> str:
        changes = parse_changes(directive.input)
        changer = Changer(self._configuration, self._members, self._last, self._window)
        if directive.command == "simple":
            changer.simple(changes)
        elif directive.command == "enter-joint":
            auto_leave = [boolean(value) for key, value in directive.options() if key == "autoleave"]
            if len(auto_leave) > 1:
                raise VectorError("enter-joint takes one autoleave")
            changer.enter_joint(changes, auto_leave=any(auto_leave))
        elif directive.command == "leave-joint":
            if changes:
                raise CommandError("this command takes no input")
            changer.leave_joint()
        else:
            raise CommandError("unknown command")
        self._configuration, self._members = changer.result()
        lines = [describe(self._configuration)]
        lines += [f"{member}: {progress}" for member, progress in self._members.items()]
        return "".join(line + "\n" for line in lines)
