"""Peer URLs: which are taken, and which are the same."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.cluster.urls import parse_peer_urls, same_places
from twistedetcd.errors import MemberBadURLsError


class PeerURLTests(SynchronousTestCase):
    """What a new member may be reached by."""

    def test_taken(self) -> None:
        """Trimmed and in order."""
        given = [" http://b:2380", "https://[::1]:1 ", "http://a:2380"]
        self.assertEqual(("http://a:2380", "http://b:2380", "https://[::1]:1"), parse_peer_urls(given))

    def test_refused(self) -> None:
        """None at all, or one that is no URL of a member."""
        for given in (
            [],
            [""],
            ["http://a"],
            ["http://a:1/b"],
            ["ftp://a:1"],
            ["http://a:1", "a:1"],
            ["http://[:1"],
        ):
            self.assertRaises(MemberBadURLsError, parse_peer_urls, given)


class SamePlacesTests(SynchronousTestCase):
    """URLs are compared by what they say, not by how (KF-59)."""

    def test_same(self) -> None:
        """Any order, any spelling of an IPv6 address, any case; a name need not stand for anything."""
        for some, others in (
            (["http://[::1]:2380"], ["http://[0:0:0:0:0:0:0:1]:2380"]),
            (["http://[2001:DB8::1]:1"], ["http://[2001:db8:0::1]:1"]),
            (["http://a:1", "http://b:1"], ["http://b:1", "http://A:1"]),
            (["http://no-such-host.invalid:2380"], ["http://no-such-host.invalid:2380"]),
            (["unix://a"], ["unix://a"]),
            (["garbage", "http://[:1"], ["http://[:1", "garbage"]),
        ):
            self.assertTrue(same_places(some, others), (some, others))

    def test_different(self) -> None:
        """Another scheme, host, port or count; what names stand for is not known."""
        for some, others in (
            (["http://a:1"], ["https://a:1"]),
            (["http://a:1"], ["http://a:2"]),
            (["http://a:1"], ["http://b:1"]),
            (["http://a:1"], ["http://a:1", "http://a:1"]),
            (["http://localhost:1"], ["http://127.0.0.1:1"]),
            (["unix://a"], ["unix://A"]),
        ):
            self.assertFalse(same_places(some, others), (some, others))
