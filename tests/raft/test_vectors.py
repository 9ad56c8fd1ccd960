"""Conversations as text: those of etcd's raft, where they are at hand, and our own."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twistedetcd.testing.vectors.__main__ import check, find, main
from twistedetcd.testing.vectors.environment import Environment, Output
from twistedetcd.testing.vectors.replay import Failure, replay, rewritten
from twistedetcd.testing.vectors.syntax import (
    Argument,
    CommandError,
    VectorError,
    parse,
    parse_bool,
    parse_uint,
)

ROOT = Path(__file__).resolve().parents[2]
OURS = ROOT / "tests" / "vectors"
THEIRS = Path(os.environ.get("RAFT_VECTORS") or ROOT.parent / "shared" / "raft-vectors")


class VectorsTests(SynchronousTestCase):
    """Raft says, letter for letter, what the files expect."""

    def test_ours(self) -> None:
        """Our own conversations, each reviewed by hand."""
        self.assertEqual([], [problem for path in find([OURS]) if (problem := check(path))])

    def test_theirs(self) -> None:
        """The conversations that etcd-io/raft tests itself with."""
        if not THEIRS.is_dir():
            raise SkipTest(f"no raft vectors in {THEIRS}: the variable RAFT_VECTORS says where they are")
        self.assertEqual([], [problem for path in find([THEIRS]) if (problem := check(path))])


class SyntaxTests(SynchronousTestCase):
    """The format of the files."""

    def arguments(self, line: str) -> tuple[Argument, ...]:
        [directive] = parse(f"{line}\n----\n")
        return directive.arguments

    def test_arguments(self) -> None:
        """A key alone, with a value, with none after the sign, with a list."""
        self.assertEqual(
            (
                Argument("1"),
                Argument("a", ("x=y",)),
                Argument("b", ("",)),
                Argument("c", ("1", "2")),
                Argument('"foo"'),
                Argument("d", ("(1)", "f(2,3)")),
                Argument("e", ("",)),
            ),
            self.arguments('cmd 1  a=x=y b= c=(1, 2) "foo" d=((1),f(2,3)) e='),
        )

    def test_malformed(self) -> None:
        """What cannot be read is refused, with its line."""
        for text, words in (
            ("cmd a=(1\n----\n", "line 1: no closing parenthesis"),
            ("# c\n\ncmd =x\n----\n", "line 3: no key"),
            ("cmd a=(1)b\n----\n", "line 1: no space"),
            ("cmd\ninput\n", "line 1: no ----"),
            ("cmd\n----\n----\nx\n\n", "line 3: two lines"),
            ("cmd\n----\n----\nx\n----\n----\nx\n", "line 7: a blank line"),
        ):
            self.assertIn(words, str(self.assertRaises(VectorError, parse, text)))

    def test_blocks(self) -> None:
        """Input and output, comments between but not in them, lines joined by a backslash, CRLF."""
        text = "# no\n\n  cmd \\\n   1\n\n# yes\nin\n----\nout\n more\n\n\nnext\r\n----\r\nlast"
        first, last = parse(text)
        self.assertEqual(("cmd", (Argument("1"),)), (first.command, first.arguments))
        self.assertEqual(("# yes\nin", "out\n more\n"), (first.input, first.expected))
        self.assertEqual(("next", "", "last\n"), (last.command, last.input, last.expected))

    def test_blank_lines_in_output(self) -> None:
        """Between double separators the output may hold blank lines, and a lone separator."""
        first, last = parse("a\n----\n----\nx\n\n----\ny\n----\n----\n\nb\n----\n")
        self.assertEqual("x\n\n----\ny\n", first.expected)
        self.assertEqual(("b", ""), (last.command, last.expected))

    def test_values(self) -> None:
        """Numbers and truth values are Go's, and so are the words for what is none."""
        self.assertEqual([True, False], [parse_bool("T"), parse_bool("0")])
        self.assertEqual(2**64 - 1, parse_uint(str(2**64 - 1)))
        for parser, text in ((parse_bool, "yes"), (parse_uint, "-1"), (parse_uint, "1_0")):
            error = self.assertRaises(CommandError, parser, text)
            self.assertIn(f'parsing "{text}": invalid syntax', str(error))
        self.assertIn("out of range", str(self.assertRaises(CommandError, parse_uint, str(2**64))))


class ReplayTests(SynchronousTestCase):
    """A difference is found, and found where it is."""

    def test_kinds(self) -> None:
        """Commands tell the kind of a file."""
        self.assertIsNone(replay("vote cfg=(1) votes=(y)\n----\nVoteWon\n"))
        self.assertIsNone(replay("simple\nv1\n----\nvoters=(1)\n1: StateProbe match=0 next=1\n"))
        self.assertIsNone(replay("add-nodes 1\n----\n" + _STARTED + "\nraft-log 1\n----\n" + _EMPTY))

    def test_difference(self) -> None:
        """The first line that differs, by its number in the file."""
        self.assertEqual(Failure(3, "VoteLost", "VoteWon"), replay("vote\n----\nVoteLost\n"))
        self.assertEqual(Failure(3, "", "VoteWon"), replay("vote\n----\n\n"))
        text = "add-nodes 1\n----\n" + _STARTED + "more\n"
        self.assertEqual(Failure(6, "more", ""), replay(text))
        text = "# c\nsimple\nr1\n----\nb\n"
        self.assertEqual(Failure(5, "b", "removed all voters"), replay(text))

    def test_errors(self) -> None:
        """What a command prints before its error stays; quiet, the error stands alone."""
        start = "add-nodes 1\n----\n" + _STARTED
        self.assertIsNone(replay(start + "\npropose 1 x\n----\n" + _DROPPED))
        self.assertIsNone(
            replay(start + "\nlog-level none\n----\nok\n\npropose 1 x\n----\nraft proposal dropped\n")
        )
        self.assertIsNone(replay("log-level x\n----\n" + _LEVELS + "\nfoo\n----\nunknown command\n"))

    def test_malformed(self) -> None:
        """What no cluster can do ends the replay, with the line."""
        for text in (
            "campaign 1",
            "raft-log x",
            "add-nodes 1 foo=1",
            "add-nodes 1 read-only=lease-based",
            "deliver-msgs 1 drop=(1)",
            "deliver-msgs type=X",
        ):
            self.assertIn("line 1: ", str(self.assertRaises(VectorError, replay, text + "\n----\n")))
        self.assertRaises(VectorError, replay, "# nothing\n")

    def test_broken_invariant(self) -> None:
        """A rule of raft that breaks is a difference like another."""
        failure = replay("add-nodes 1 voters=(1) index=5\n----\n" + _VOTER + "\ncompact 1 9\n----\nok\n")
        assert failure is not None, "compacting past the end must fail"
        self.assertIn("broke an invariant", failure.actual)

    def test_rewritten(self) -> None:
        """The right output takes the place of the wrong; all else stays."""
        text = "# c\n\nvote\n----\nwrong\n\n# d\nvote cfg=(1) votes=(n)\n----\n"
        self.assertEqual(
            "# c\n\nvote\n----\nVoteWon\n\n# d\nvote cfg=(1) votes=(n)\n----\nVoteLost\n", rewritten(text)
        )
        self.assertIsNone(replay(rewritten(text)))


class OutputTests(SynchronousTestCase):
    """What is printed when."""

    def test_levels(self) -> None:
        """A level keeps back what is less important; NONE keeps back everything."""
        output = Output()
        output.set_level("warn")
        output.trace("INFO", "no")
        output.trace("WARN", "{id:x} yes", id=10)
        output.write("text\n")
        output.set_level("None")
        output.write("no")
        self.assertEqual("WARN a yes\ntext\n", output.take())

    def test_indented(self) -> None:
        """Each line moves two columns, gets its end, and an empty one becomes two spaces."""
        output = Output()
        with output.indented():
            output.write("a\n\nb")
        with output.indented():
            pass
        self.assertEqual("  a\n  \n  b\n", output.take())

    def test_nodes(self) -> None:
        """Nodes count from 1."""
        self.assertRaises(VectorError, Environment().node, 0)


class CommandLineTests(SynchronousTestCase):
    """``python -m twistedetcd.testing.vectors``"""

    def run_main(self, *arguments: str) -> tuple[int, str, str]:
        out, errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stderr", errors)
        with contextlib.redirect_stdout(out):
            status = main(arguments)
        return status, out.getvalue(), errors.getvalue()

    def test_counts(self) -> None:
        """One line a file, the first difference of one that fails, and the sum; status 1 if one failed."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "a.txt").write_text("vote\n----\nVoteWon\n")
        (directory / "b.txt").write_text("vote\n----\nVoteLost\n")
        (directory / "c.txt").write_text("vote\n")
        status, out, _ = self.run_main(str(directory))
        lines = out.splitlines()
        self.assertEqual((1, "1 passed, 2 failed"), (status, lines[-1]))
        self.assertEqual(f"ok      {directory}/a.txt", lines[0])
        self.assertEqual(f"FAILED  {directory}/b.txt:3", lines[1])
        self.assertEqual(["  expected: VoteLost", "  actual:   VoteWon"], lines[2:4])
        self.assertEqual(f"FAILED  {directory}/c.txt: line 1: no ---- follows", lines[4])

    def test_nothing_to_replay(self) -> None:
        """A directory that is missing or empty is a mistake, not a success."""
        empty = Path(self.mktemp())
        empty.mkdir()
        for directory in (empty, empty / "missing"):
            status, out, errors = self.run_main(str(OURS), str(directory))
            self.assertEqual((2, ""), (status, out))
            self.assertIn(str(directory), errors)

    def test_ours(self) -> None:
        """Status 0 if all pass."""
        status, out, _ = self.run_main(str(OURS))
        self.assertEqual((0, f"{len(find([OURS]))} passed, 0 failed"), (status, out.splitlines()[-1]))


_STARTED = """\
INFO 1 switched to configuration voters=()
INFO 1 became follower at term 0
INFO newRaft 1 [peers: [], term: 0, commit: 0, applied: 0, lastindex: 0, lastterm: 0]
"""
_VOTER = """\
INFO 1 switched to configuration voters=(1)
INFO 1 became follower at term 0
INFO newRaft 1 [peers: [1], term: 0, commit: 5, applied: 5, lastindex: 5, lastterm: 1]
"""
_EMPTY = "log is empty: first index=1, last index=0\n"
_DROPPED = "INFO 1 no leader at term 0; dropping proposal\nraft proposal dropped\n"
_LEVELS = "log levels must be either of [DEBUG INFO WARN ERROR FATAL NONE]\n"
