"""Which version the members act as (reference, storage section 19)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.cluster.version import OLDEST, Version, check_joinable, check_not_older, decide
from twistedetcd.errors import MemberError

V35, V36 = Version(3, 5), Version(3, 6)


class VersionTests(SynchronousTestCase):
    """Semantic versions."""

    def test_parse(self) -> None:
        """Three numbers; what is added to them is dropped."""
        for text, version in {
            "3.6.14": Version(3, 6, 14),
            "3.6.0-rc.1": V36,
            "3.7.0-alpha.0+git": Version(3, 7),
            "0.0.0+a-b": Version(0, 0),
        }.items():
            self.assertEqual(version, Version.parse(text))
        self.assertEqual("3.6.14", str(Version(3, 6, 14)))

    def test_no_version(self) -> None:
        """Anything else is refused."""
        for text in ("", "3", "3.6", "v3.6.0", "3.6.0.0", "3.06.0", "-3.6.0", "3.6.0-", "3.6.0\n"):
            self.assertRaises(ValueError, Version.parse, text)
        for text in ("3.6.\u0660", "3.6.0 ", "3.6.1234567890"):
            self.assertRaises(ValueError, Version.parse, text)

    def test_order(self) -> None:
        """By number, not by letter."""
        self.assertLess(Version.parse("3.9.9"), Version.parse("3.10.0"))
        self.assertLess(Version.parse("3.10.9"), Version.parse("4.0.0"))


class DecideTests(SynchronousTestCase):
    """The leader's decision."""

    def test_undecided(self) -> None:
        """At first the lowest of all, or the oldest while one of them is not known."""
        self.assertEqual(V35, decide({1: Version(3, 6, 2), 2: Version(3, 5, 21)}, None))
        self.assertEqual(OLDEST, decide({1: Version(3, 6, 2), 2: None}, None))
        self.assertEqual(OLDEST, decide({}, None))

    def test_raised(self) -> None:
        """Later it is raised to the lowest of all, once all are known."""
        self.assertEqual(V36, decide({1: Version(3, 6, 2), 2: V36}, V35))
        self.assertEqual(V36, decide({1: Version(3, 6, 2)}, OLDEST))
        self.assertIsNone(decide({1: Version(3, 6, 2), 2: None}, V35))

    def test_stays(self) -> None:
        """A patch raises nothing, and nothing lowers it."""
        self.assertIsNone(decide({1: Version(3, 6, 2), 2: Version(3, 6, 9)}, V36))
        self.assertIsNone(decide({1: Version(3, 6, 2), 2: Version(3, 5, 1)}, V36))
        self.assertIsNone(decide({}, V36))


class JoinTests(SynchronousTestCase):
    """Who may be part of a cluster."""

    def test_joinable(self) -> None:
        """Some member tells a version that we know, and none another; our own does not count."""
        own = Version(3, 6, 14)
        for clusters in ([V36], [OLDEST], [V35, None]):
            check_joinable(clusters, own)
        refused: list[list[Version | None]] = [[], [None], [Version(3, 7)], [V36, Version(2, 3)]]
        for clusters in refused:
            error = self.assertRaises(MemberError, check_joinable, clusters, own)
            self.assertTrue(str(error).startswith("incompatible with current running cluster: "), error)

    def test_older(self) -> None:
        """A server older than the cluster version refuses to run; its patch does not matter."""
        check_not_older(Version(3, 6, 1), Version(3, 6, 0))
        check_not_older(Version(3, 6, 0), Version(3, 6, 1))
        check_not_older(Version(3, 6), OLDEST)
        error = self.assertRaises(MemberError, check_not_older, Version(3, 5, 21), V36)
        self.assertEqual(
            "invalid downgrade; server version 3.5.21 is lower than determined cluster version 3.6.0",
            str(error),
        )
