"""security: what flags mean for TLS, and the certificates that a member makes for itself."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.test_config import parsed
from twistedetcd.config import Config
from twistedetcd.protocols.certificates import hosts_of, read_certificates
from twistedetcd.protocols.tls import ClientTLS, ServerTLS, TLSOptions
from twistedetcd.security import PROTOCOLS, client_options, make_certificates, peer_options

CLIENT = ("--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://a:1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class OptionsTests(SynchronousTestCase):
    """Each flag says one thing."""

    def test_clients(self) -> None:
        """What was set for clients counts for clients."""
        config = parsed(
            *CLIENT,
            "--cert-file=c",
            "--key-file=k",
            "--client-cert-file=cc",
            "--client-key-file=ck",
            "--client-cert-auth",
            "--client-crl-file=crl",
            "--client-cert-allowed-hostname=h,i",
            "--trusted-ca-file=t",
            "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_AES_128_GCM_SHA256",
            "--tls-min-version=",
            "--tls-max-version=TLS1.3",
        )
        self.assertEqual(
            TLSOptions(
                cert_file="c",
                key_file="k",
                client_cert_file="cc",
                client_key_file="ck",
                trusted_ca_file="t",
                client_cert_auth=True,
                allowed_hostnames=("h", "i"),
                crl_file="crl",
                min_version="",
                max_version="TLS1.3",
                cipher_suites=("ECDHE-RSA-AES128-GCM-SHA256",),
                protocols=PROTOCOLS,
            ),
            client_options(config),
        )
        self.assertIsNone(peer_options(config))

    def test_peers(self) -> None:
        """What was set for members counts for members, also where they are only called by TLS."""
        config = parsed(
            "--peer-cert-file=c",
            "--peer-key-file=k",
            "--peer-client-cert-file=cc",
            "--peer-client-key-file=ck",
            "--peer-client-cert-auth",
            "--peer-crl-file=crl",
            "--peer-cert-allowed-cn=a,b",
            "--peer-trusted-ca-file=t",
        )
        self.assertEqual(
            TLSOptions(
                cert_file="c",
                key_file="k",
                client_cert_file="cc",
                client_key_file="ck",
                trusted_ca_file="t",
                client_cert_auth=True,
                allowed_cns=("a", "b"),
                crl_file="crl",
            ),
            peer_options(config),
        )
        self.assertIsNone(client_options(config))

    def test_peers_by_host(self) -> None:
        """Members may be known by hosts as well; without a certificate they are still called by TLS."""
        options = peer_options(parsed("--peer-cert-allowed-hostname=h", "--peer-trusted-ca-file=t"))
        self.assertEqual(
            TLSOptions(cert_file="", key_file="", trusted_ca_file="t", allowed_hostnames=("h",)), options
        )

    def test_plain(self) -> None:
        """Without flags there is no TLS, nor without an https URL for clients."""
        self.assertIsNone(client_options(parsed()))
        self.assertIsNone(peer_options(parsed()))
        self.assertIsNone(client_options(parsed("--cert-file=c", "--key-file=k")))


class MadeTests(SynchronousTestCase):
    """A member makes certificates when it is told to."""

    def setUp(self) -> None:
        self.data = Path(self.mktemp()).absolute()
        self.logs = self.enterContext(capturedLogs())

    def config(self, *flags: str) -> Config:
        """One that makes both."""
        return parsed(
            f"--data-dir={self.data}",
            "--listen-client-urls=https://127.0.0.1:1,https://localhost:2,https://[::1]:1,https://127.0.0.1:3",
            "--advertise-client-urls=https://a:1",
            "--auto-tls",
            "--listen-peer-urls=https://10.0.0.1:1",
            "--peer-auto-tls",
            *flags,
        )

    def made(self, role: str) -> bytes:
        """The certificate that was made."""
        return (self.data / "fixtures" / role / "cert.pem").read_bytes()

    def test_files(self) -> None:
        """They lie where etcd has them, for nobody else to read, and both sides can use them."""
        config = self.config()
        make_certificates(config, NOW)
        files = sorted(self.data.rglob("*.*"))
        self.assertEqual(
            [f"fixtures/{role}/{name}.pem" for role in ("client", "peer") for name in ("cert", "key")],
            [str(file.relative_to(self.data)) for file in files],
        )
        self.assertEqual({0o600}, {stat.S_IMODE(file.stat().st_mode) for file in files})
        for options in (client_options(config), peer_options(config)):
            assert options is not None
            ServerTLS(options).load()
            ClientTLS(options).load()

    def test_members_take_any(self) -> None:
        """Members that make their certificates take any of each other, since nobody has signed them."""
        options = peer_options(self.config())
        assert options is not None
        self.assertTrue(options.skip_verify)

    def test_hosts(self) -> None:
        """A certificate is for the hosts that are listened on, each once."""
        make_certificates(self.config(), NOW)
        [made] = read_certificates(str(self.data / "fixtures/client/cert.pem"))
        names, addresses = hosts_of(made)
        self.assertEqual((["localhost"], ["127.0.0.1", "::1"]), (names, [str(one) for one in addresses]))

    def test_validity(self) -> None:
        """It is valid for as many years as the flag says, or as long as anything can be."""
        for years, end in {3: NOW + timedelta(days=3 * 365), 2**64 - 1: None}.items():
            make_certificates(self.config(f"--self-signed-cert-validity={years}"), NOW)
            [made] = read_certificates(str(self.data / "fixtures/client/cert.pem"))
            self.assertEqual(end or datetime(9999, 12, 31, tzinfo=UTC), made.not_valid_after_utc)
            (self.data / "fixtures/client/cert.pem").unlink()

    def test_kept(self) -> None:
        """What there is, is kept until it expires, whatever the flags say now."""
        make_certificates(self.config(), NOW)
        before = self.made("client"), self.made("peer")
        make_certificates(self.config("--self-signed-cert-validity=2"), NOW + timedelta(days=364))
        self.assertEqual(before, (self.made("client"), self.made("peer")))
        make_certificates(self.config(), NOW + timedelta(days=365))
        self.assertNotEqual(before[0], self.made("client"))
        self.assertNotEqual(before[1], self.made("peer"))

    def test_damaged(self) -> None:
        """Half of it, or a key that does not belong to it, is replaced."""
        make_certificates(self.config(), NOW)
        client, peer = self.data / "fixtures/client", self.data / "fixtures/peer"
        for damage in (
            lambda: (client / "key.pem").unlink(),
            lambda: (client / "cert.pem").write_bytes(b""),
            lambda: (client / "key.pem").write_bytes((peer / "key.pem").read_bytes()),
        ):
            before = self.made("client")
            damage()
            make_certificates(self.config(), NOW)
            self.assertNotEqual(before, self.made("client"))

    def test_not_wanted(self) -> None:
        """Without the flags, and where certificates are given, none is made."""
        make_certificates(parsed(f"--data-dir={self.data}"), NOW)
        given = ("--cert-file=c", "--key-file=k", "--peer-cert-file=c", "--peer-key-file=k")
        make_certificates(self.config(*given), NOW)
        self.assertFalse(self.data.exists())
