"""Founders from SRV records, which an authority in memory has."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, TimeoutError, fail
from twisted.names import dns
from twisted.names.authority import FileAuthority
from twisted.names.error import DNSQueryTimeoutError, DNSServerError
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.config import Config, parse
from twistedetcd.discovery import discover
from twistedetcd.errors import ConfigError

DOMAIN = b"example.com"
PLAIN, TLS = b"_etcd-server._tcp.example.com", b"_etcd-server-ssl._tcp.example.com"
HOSTS = {
    b"m1.example.com": [dns.Record_A("10.0.0.1")],
    b"m2.example.com": [dns.Record_A("10.0.0.2")],
    b"m3.example.com": [dns.Record_AAAA("fd00::3")],
}
MEMBERS = {
    "one": ("http://m1.example.com:2380",),
    "0": ("http://m2.example.com:2380",),
    "1": ("http://m3.example.com:2380",),
}


class Zone(FileAuthority):  # type: ignore[misc]
    """
    The authority for example.com.

    Attributes:
        failures: What is said instead of an answer, by name.
    """

    def __init__(self, records: dict[bytes, Any]) -> None:
        super().__init__(None)
        self.soa = (DOMAIN, dns.Record_SOA(DOMAIN, DOMAIN))
        self.records = records
        self.failures: dict[bytes, Exception] = {}

    def _lookup(self, name: bytes, cls: int, type: int, timeout: Any = None) -> Deferred[Any]:
        if name in self.failures:
            return fail(self.failures[name])
        answer: Deferred[Any] = super()._lookup(name, cls, type, timeout)
        return answer


def service(*targets: str, priority: int = 0) -> list[dns.Record_SRV]:
    """SRV records, ``host:port`` each."""
    pairs = [target.rsplit(":", 1) for target in targets]
    return [dns.Record_SRV(priority, 0, int(port), host.encode()) for host, port in pairs]


class DiscoveryCase(SynchronousTestCase):
    """A member called one, on 10.0.0.1."""

    def setUp(self) -> None:
        three = service("m1.example.com:2380", "m2.example.com:2380", "m3.example.com:2380")
        self.zone = Zone({**HOSTS, PLAIN: three})

    def config(self, *flags: str, urls: str = "http://10.0.0.1:2380") -> Config:
        base = ["--name=one", "--discovery-srv=example.com", f"--initial-advertise-peer-urls={urls}"]
        return parse([*base, *flags], {}, lambda path: b"")

    def discover(self, *flags: str, **config: str) -> Config:
        found = Deferred.fromCoroutine(discover(self.config(*flags, **config), self.zone))
        return self.successResultOf(found)

    def refused(self, *flags: str, **config: str) -> str:
        found = Deferred.fromCoroutine(discover(self.config(*flags, **config), self.zone))
        return str(self.failureResultOf(found, ConfigError).value)


class FoundersTests(DiscoveryCase):
    """Who founds the cluster."""

    def test_members(self) -> None:
        """Each record is a member; the one that leads to where this member is has its name."""
        config = self.discover()
        self.assertEqual(MEMBERS, dict(config.initial_cluster))
        self.assertEqual((), config.warnings)

    def test_own_urls(self) -> None:
        """This member advertises what the records say, in their letters: ids are made of them."""
        self.assertEqual(("http://m1.example.com:2380",), self.discover().initial_advertise_peer_urls)
        both = self.discover(urls="http://10.0.0.1:2380,http://10.0.0.1:9999")
        self.assertEqual(
            ("http://10.0.0.1:9999", "http://m1.example.com:2380"), both.initial_advertise_peer_urls
        )

    def test_by_name(self) -> None:
        """It may advertise a name, too, and any of its addresses may be the one that is met."""
        self.zone.records[b"alias.example.com"] = [dns.Record_CNAME("m1.example.com")]
        self.zone.records[b"m1.example.com"] = [dns.Record_A("10.0.0.1"), dns.Record_AAAA("fd00::1")]
        for host in ("m1.example.com", "alias.example.com", "[FD00:0::1]"):
            self.assertEqual(MEMBERS, dict(self.discover(urls=f"http://{host}:2380").initial_cluster))

    def test_port(self) -> None:
        """Members of one host are told apart by their ports; all that lead here are this one's URLs."""
        self.zone.records[PLAIN] = service(
            "m1.example.com:2380", "m1.example.com:2381", "m1.example.com:2382"
        )
        config = self.discover(urls="http://10.0.0.1:2380,http://10.0.0.1:2382")
        expected = {
            "one": ("http://m1.example.com:2380", "http://m1.example.com:2382"),
            "0": ("http://m1.example.com:2381",),
        }
        self.assertEqual(expected, dict(config.initial_cluster))

    def test_schemes(self) -> None:
        """Both services count; one stands for https."""
        self.zone.records[PLAIN] = service("m2.example.com:2380")
        self.zone.records[TLS] = service("m1.example.com:2380")
        config = self.discover(urls="https://10.0.0.1:2380")
        expected = {"one": ("https://m1.example.com:2380",), "0": ("http://m2.example.com:2380",)}
        self.assertEqual(expected, dict(config.initial_cluster))

    def test_service_name(self) -> None:
        """Another cluster of the domain has a word in the names of its records."""
        self.zone.records[b"_etcd-server-blue._tcp.example.com"] = service("m1.example.com:2380")
        config = self.discover("--discovery-srv-name=blue")
        self.assertEqual({"one": MEMBERS["one"]}, dict(config.initial_cluster))

    def test_names(self) -> None:
        """The others are numbered, whatever the server's order; nobody is mixed up with this one."""
        self.zone.records[PLAIN].reverse()
        self.assertEqual(MEMBERS, dict(self.discover().initial_cluster))
        config = self.discover("--name=0")
        self.assertEqual({"0", "1", "2"}, {*config.initial_cluster})
        self.assertEqual(MEMBERS["one"], config.initial_cluster["0"])


class ProblemTests(DiscoveryCase):
    """What is wrong is said in a sentence."""

    def test_nobody(self) -> None:
        """No records: both names that were looked up are told."""
        del self.zone.records[PLAIN]
        self.assertEqual(
            "no members found by --discovery-srv: "
            "error looking up _etcd-server-ssl._tcp.example.com: no such name; "
            "error looking up _etcd-server._tcp.example.com: no such name",
            self.refused(),
        )

    def test_no_service(self) -> None:
        """A record that points to nowhere says that there is no such service (RFC 2782)."""
        self.zone.records[PLAIN] = service(":0")
        self.assertIn("there are no SRV records of _etcd-server._tcp.example.com", self.refused())

    def test_server(self) -> None:
        """A server that does not answer, or cannot."""
        self.zone.failures[PLAIN] = DNSQueryTimeoutError(1)
        self.zone.failures[TLS] = DNSServerError(None)
        self.assertEqual(
            "no members found by --discovery-srv: error looking up _etcd-server-ssl._tcp.example.com: "
            "the server answered with DNSServerError; "
            "error looking up _etcd-server._tcp.example.com: no answer in time",
            self.refused(),
        )

    def test_one_service_does_not_answer(self) -> None:
        """Who goes on with the other one's members is warned: there may be more."""
        self.zone.failures[TLS] = TimeoutError()
        config = self.discover()
        self.assertEqual(MEMBERS, dict(config.initial_cluster))
        self.assertEqual(
            ("error looking up _etcd-server-ssl._tcp.example.com: no answer in time",), config.warnings
        )

    def test_not_among_them(self) -> None:
        """This member must be one of them."""
        text = 'cannot find local etcd member "one" in SRV records'
        self.assertEqual(text, self.refused(urls="http://10.0.0.9:2380"))
        self.assertEqual(text, self.refused(urls="http://10.0.0.1:9999"))

    def test_other_scheme(self) -> None:
        """A record that leads here with the other scheme is no URL of this member."""
        self.assertEqual(
            'cannot find local etcd member "one" in SRV records; bootstrap at http://m1.example.com:2380 '
            "from DNS for _etcd-server._tcp.example.com has scheme mismatch with expected peer "
            "https://10.0.0.1:2380",
            self.refused(urls="https://10.0.0.1:2380"),
        )

    def test_record_of_nobody(self) -> None:
        """A record whose host has no address is passed over, with a warning; so are others of its kind."""
        self.zone.records[PLAIN] += service("gone.example.com:2380")
        self.zone.records[b"mail.example.com"] = [dns.Record_MX(1, "m1.example.com")]
        self.zone.records[PLAIN] += service("mail.example.com:2380")
        config = self.discover()
        self.assertEqual(MEMBERS, dict(config.initial_cluster))
        start = "a record of _etcd-server._tcp.example.com is passed over: "
        self.assertEqual(
            (
                f"{start}error looking up gone.example.com: no such name",
                f"{start}mail.example.com has no address",
            ),
            config.warnings,
        )

    def test_own_url(self) -> None:
        """What this member advertises must lead somewhere."""
        self.assertEqual(
            "--initial-advertise-peer-urls http://gone.example.com:1: "
            "error looking up gone.example.com: no such name",
            self.refused(urls="http://gone.example.com:1"),
        )
        self.assertEqual(
            "--initial-advertise-peer-urls unix://m1: no SRV record leads to a path",
            self.refused(urls="unix://m1"),
        )
