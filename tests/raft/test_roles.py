"""The table of who hears what, and its copy in the documentation."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.raft.roles import REACTIONS
from twistedetcd.raft.types import MessageType, Role
from twistedetcd.testing.roles import table, unheard

PAGE = Path(__file__).resolve().parents[2] / "docs" / "raft.md"


class TableTests(SynchronousTestCase):
    """``docs/raft.md`` shows the table that the code uses."""

    def test_page(self) -> None:
        """The page has exactly what ``python -m twistedetcd.testing.roles`` prints."""
        lines = PAGE.read_text(encoding="utf-8").splitlines(keepends=True)
        start = next(number for number, line in enumerate(lines) if line.startswith("| Message | Follower |"))
        rows = []
        for line in lines[start:]:
            if not line.startswith("|"):
                break
            rows.append(line)
        self.assertEqual(table(), "".join(rows))

    def test_every_cell(self) -> None:
        """Each reaction of each role has its cell; those for members only bear a star."""
        text = table()
        cells = sum(len(reactions) for reactions in REACTIONS.values())
        self.assertEqual(cells, text.count("`") // 2)
        self.assertIn("| MsgProp | `follower.forward_proposal` | `follower.drop_proposal` |", text)
        self.assertIn("`leader.on_append_response` *", text)

    def test_unheard(self) -> None:
        """Only what the driver's storage threads are for is heard by nobody."""
        self.assertEqual(["MsgStorageAppend", "MsgStorageApply"], unheard())

    def test_votes_of_their_own_kind(self) -> None:
        """A pre-candidate counts no vote, and a candidate no pre-vote (raft.md 8)."""
        self.assertNotIn(MessageType.VOTE_RESP, REACTIONS[Role.PRE_CANDIDATE])
        self.assertNotIn(MessageType.PRE_VOTE_RESP, REACTIONS[Role.CANDIDATE])
