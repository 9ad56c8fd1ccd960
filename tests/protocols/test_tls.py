"""tls: each side shows what its files hold, and takes only whom it was told to; either learns why not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.certificates import CLIENT_ONLY, SERVER_ONLY, Authority
from tests.protocols.handshake import Room, Side
from twistedetcd.protocols.tls import ClientTLS, ServerTLS, TLSFileError, TLSOptions

UNKNOWN = "no authority that is trusted here has signed the certificate of "


class TLSCase(SynchronousTestCase):
    """An authority, a server that demands certificates of it, and a client that has one."""

    def setUp(self) -> None:
        self.authority = Authority(self.mktemp())
        self.server_files = self.authority.issue("server", ["localhost", "127.0.0.1", "*.example.com"])
        self.client_files = self.authority.issue("client")

    def server(self, **options: Any) -> ServerTLS:
        """The listening side."""
        cert_file, key_file = self.server_files
        given = {"trusted_ca_file": self.authority.ca_file, **options}
        return ServerTLS(TLSOptions(**{"cert_file": cert_file, "key_file": key_file, **given}))

    def client(self, files: tuple[str, str] | None = None, **options: Any) -> ClientTLS:
        """The dialing side."""
        cert_file, key_file = files or self.client_files
        given = {"trusted_ca_file": self.authority.ca_file, **options}
        return ClientTLS(TLSOptions(**{"cert_file": cert_file, "key_file": key_file, **given}))

    def assert_met(self, sides: tuple[Side, Side]) -> None:
        """Both handshakes went well."""
        for side in sides:
            self.assertIsNone(side.lost, side.lost)
            self.assertTrue(side.connection.completed)

    def assert_refused(self, reason: str, client: ClientTLS, **options: Any) -> None:
        """The server refuses the client for this reason, and nobody gets to speak."""
        room = Room(self.server(**options))
        server, _ = room.meet(client)
        self.assertEqual(reason, server.reason)
        self.assertEqual(reason, server.refused)
        self.assertEqual([reason], [told for _, told in room.told])
        self.assertFalse(server.completed)

    def assert_refuses(self, reason: str, client: ClientTLS, host: str = "localhost") -> None:
        """The client refuses the server for this reason."""
        _, dialer = Room(self.server()).meet(client, host)
        self.assertEqual(reason, dialer.reason)
        self.assertFalse(dialer.completed)


@implementer(IOpenSSLClientConnectionCreator)
class Resuming:
    """Offers a session that there was before."""

    def __init__(self, creator: IOpenSSLClientConnectionCreator, session: Any) -> None:
        self._creator, self._session = creator, session

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = self._creator.clientConnectionForTLS(tlsProtocol)
        connection.set_session(self._session)
        return connection


class HandshakeTests(TLSCase):
    """Who fits is let in."""

    def test_both_sides(self) -> None:
        """The server knows who the client is."""
        room = Room(self.server())
        server, client = room.meet(self.client())
        self.assert_met((server, client))
        self.assertEqual([], room.told)
        transport: Any = server.transport
        shown = transport.getPeerCertificate().to_cryptography()
        self.assertEqual("CN=client", shown.subject.rfc4514_string())

    def test_no_certificate_needed(self) -> None:
        """A server without an authority asks for nothing."""
        room = Room(self.server(trusted_ca_file=""))
        self.assert_met(room.meet(self.client(("", ""))))

    def test_dialing_certificate(self) -> None:
        """A certificate of its own for dialing comes before the one for listening."""
        other = self.authority.issue("other")
        options = {"client_cert_file": other[0], "client_key_file": other[1]}
        server, client = Room(self.server()).meet(self.client(self.server_files, **options))
        self.assert_met((server, client))
        transport: Any = server.transport
        shown = transport.getPeerCertificate().to_cryptography()
        self.assertEqual("CN=other", shown.subject.rfc4514_string())

    def test_protocols(self) -> None:
        """The server's favourite of what was offered is spoken; that there is none is no reason to part."""
        for offered, agreed in {
            (b"h2",): b"h2",
            (b"h2", b"http/1.1"): b"http/1.1",
            (b"other",): b"",
            (): b"",
        }.items():
            room = Room(self.server(protocols=(b"http/1.1", b"h2")))
            sides = room.meet(self.client(protocols=offered))
            self.assert_met(sides)
            self.assertEqual(agreed, sides[1].connection.get_alpn_proto_negotiated())

    def test_hosts(self) -> None:
        """A host is a name or an address that the certificate lists; a star is one whole label."""
        for host in ("localhost", "LOCALHOST", "127.0.0.1", "a.example.com"):
            self.assert_met(Room(self.server()).meet(self.client(), host))
        for host in ("127.0.0.2", "example.com", "a.b.example.com", "::1"):
            self.assert_refuses(f"the certificate of CN=server is not for {host}", self.client(), host)

    def test_server_name(self) -> None:
        """A name is sent along, an address is not."""
        for host, name in {"localhost": b"localhost", "127.0.0.1": None}.items():
            server, _ = Room(self.server()).meet(self.client(), host)
            self.assertEqual(name, server.connection.get_servername())

    def test_versions(self) -> None:
        """Only versions from the oldest to the newest allowed are spoken."""
        for oldest, newest, version in (("TLS1.3", "", "TLSv1.3"), ("", "TLS1.2", "TLSv1.2")):
            sides = Room(self.server(min_version=oldest, max_version=newest)).meet(self.client())
            self.assert_met(sides)
            self.assertEqual(version, sides[0].connection.get_protocol_version_name())
        self.assert_refused(
            "there is no version of TLS that both sides speak",
            self.client(max_version="TLS1.2"),
            min_version="TLS1.3",
        )

    def test_cipher_suites(self) -> None:
        """With TLS 1.2 only the suites that are allowed are used."""
        suites = ("ECDHE-ECDSA-AES256-GCM-SHA384",)
        sides = Room(self.server(cipher_suites=suites)).meet(self.client(max_version="TLS1.2"))
        self.assert_met(sides)
        self.assertEqual(suites[0], sides[0].connection.get_cipher_name())
        self.assert_refused(
            "there is no cipher suite that both sides know",
            self.client(max_version="TLS1.2", cipher_suites=("ECDHE-ECDSA-AES128-GCM-SHA256",)),
            cipher_suites=suites,
        )

    def test_no_cipher_suite(self) -> None:
        """Suites that OpenSSL does not have are refused when all is loaded, if there is no other."""
        error = self.assertRaises(TLSFileError, self.server(cipher_suites=("A", "B")).load)
        self.assertEqual("none of the cipher suites A:B can be used", str(error))

    def test_skip_verify(self) -> None:
        """Whoever is told to takes any certificate."""
        other = Authority(self.mktemp(), "other")
        client = self.client(trusted_ca_file=other.ca_file, skip_verify=True)
        self.assert_met(Room(self.server()).meet(client, "anything"))

    def test_no_session_is_resumed(self) -> None:
        """Each connection is judged anew: what is revoked meanwhile gets in by no older session."""
        server = self.server(crl_file=self.authority.crl_file())
        dialer = self.client(max_version="TLS1.2").creator("localhost")
        _, first = Room(server).meet_creator(dialer)
        self.authority.revoke(self.client_files[0])
        self.authority.crl_file()
        second, _ = Room(server).meet_creator(Resuming(dialer, first.connection.get_session()))
        self.assertEqual("the certificate of CN=client is revoked", second.reason)


class RefusedClientTests(TLSCase):
    """A client that is not let in fails the handshake, for a reason that the server can tell."""

    def test_no_certificate(self) -> None:
        """One must be shown; it is enough that an authority is named."""
        for demanded in (True, False):
            self.assert_refused(
                "no certificate was shown, and one is demanded",
                self.client(("", "")),
                client_cert_auth=demanded,
            )

    def test_wrong_authority(self) -> None:
        """It must be signed by the authority."""
        other = Authority(self.mktemp(), "other")
        self.assert_refused(f"{UNKNOWN}CN=stranger", self.client(other.issue("stranger")))

    def test_authority_of_the_same_name(self) -> None:
        """That the authorities' names are the same is not enough."""
        other = Authority(self.mktemp())
        self.assert_refused(f"{UNKNOWN}CN=stranger", self.client(other.issue("stranger")))

    def test_expired(self) -> None:
        """It must still be valid."""
        files = self.authority.issue("late", days=-1)
        room = Room(self.server())
        server, _ = room.meet(self.client(files))
        self.assertRegex(
            server.reason, r"^the certificate of CN=late has expired on [0-9-]{10} [0-9:]{5} UTC$"
        )

    def test_not_yet_valid(self) -> None:
        """It must be valid already."""
        files = self.authority.issue("early", begins_in_days=1)
        server, _ = Room(self.server()).meet(self.client(files))
        self.assertRegex(server.reason, r"^the certificate of CN=early begins on [0-9-]{10} [0-9:]{5} UTC$")

    def test_purpose(self) -> None:
        """A certificate for servers only is none for clients."""
        files = self.authority.issue("purpose", usages=SERVER_ONLY)
        reason = "the certificate of CN=purpose is not meant for this side of a connection"
        self.assert_refused(reason, self.client(files))
        self.assert_met(Room(self.server()).meet(self.client(self.authority.issue("any", usages=()))))

    def test_revoked(self) -> None:
        """It must not be on the list, which may be PEM or DER."""
        for encoding in (Encoding.PEM, Encoding.DER):
            crl_file = self.authority.crl_file(encoding)
            self.assert_met(Room(self.server(crl_file=crl_file)).meet(self.client()))
        self.authority.revoke(self.client_files[0])
        for encoding in (Encoding.PEM, Encoding.DER):
            crl_file = self.authority.crl_file(encoding)
            self.assert_refused("the certificate of CN=client is revoked", self.client(), crl_file=crl_file)

    def test_common_names(self) -> None:
        """If some are allowed, it has one of them."""
        self.assert_met(Room(self.server(allowed_cns=("a", "client"))).meet(self.client()))
        self.assert_refused(
            "the certificate of CN=client has none of the common names that are allowed",
            self.client(),
            allowed_cns=("a", "clien"),
        )

    def test_hostnames(self) -> None:
        """If some hosts are allowed, it is for one of them; its common name does not count."""
        files = self.authority.issue("host", ["a.example.com", "10.0.0.1"], cn="b.example.com")
        for host in ("a.example.com", "10.0.0.1"):
            server = self.server(allowed_hostnames=("other", host))
            self.assert_met(Room(server).meet(self.client(files)))
        self.assert_refused(
            "the certificate of CN=b.example.com is for none of the hosts that are allowed",
            self.client(files),
            allowed_hostnames=("b.example.com",),
        )

    def test_nameless(self) -> None:
        """A certificate without a subject is called by its serial number."""
        files = self.authority.issue("nameless", cn="")
        room = Room(self.server(allowed_cns=("a",)))
        server, _ = room.meet(self.client(files))
        self.assertRegex(server.reason, "^the certificate of serial number [0-9a-f]+ has none of the common")

    def test_names_are_fit_for_a_log(self) -> None:
        """What a stranger has for a name forges no line of a log, and is cut."""
        other = Authority(self.mktemp(), "other")
        files = other.issue("long", cn="a\nb" + 61 * "x")
        server, _ = Room(self.server()).meet(self.client(files))
        self.assertEqual(f"{UNKNOWN}CN=a?b{61 * 'x'}", server.reason)


class RefusedServerTests(TLSCase):
    """A server that is not who it should be fails the handshake, and the client knows why."""

    def test_wrong_authority(self) -> None:
        """It must be signed by the client's authority."""
        other = Authority(self.mktemp(), "other")
        self.assert_refuses(f"{UNKNOWN}CN=server", self.client(trusted_ca_file=other.ca_file))

    def test_system_authorities(self) -> None:
        """Without an authority the system's are asked."""
        self.assert_refuses(f"{UNKNOWN}CN=server", self.client(trusted_ca_file=""))

    def test_common_names(self) -> None:
        """The names that are allowed are so for either side."""
        self.assert_refuses(
            "the certificate of CN=server has none of the common names that are allowed",
            self.client(allowed_cns=("client",)),
        )

    def test_purpose(self) -> None:
        """A certificate for clients only is none for servers."""
        self.server_files = self.authority.issue("server", ["localhost"], usages=CLIENT_ONLY)
        self.assert_refuses(
            "the certificate of CN=server is not meant for this side of a connection", self.client()
        )

    def test_the_other_side_is_told(self) -> None:
        """Whoever is refused hears an alert, and can tell it."""
        other = Authority(self.mktemp(), "other")
        room = Room(self.server())
        room.meet(self.client(trusted_ca_file=other.ca_file))
        [(_, reason)] = room.told
        self.assertEqual("the other side broke off the handshake: unknown ca", reason)
        for version in ("TLS1.2", "TLS1.3"):
            _, client = Room(self.server()).meet(self.client(("", ""), max_version=version))
            self.assertRegex(client.reason, "^the other side broke off the handshake: ")

    def test_what_is_in_the_file(self) -> None:
        """Whatever is in the file of authorities is one, as with Go, even what another has signed."""
        alone = self.client(trusted_ca_file=self.server_files[0])
        self.assert_met(Room(self.server()).meet(alone))


class ChainTests(TLSCase):
    """Between a certificate and the authority that is trusted there may be others."""

    def setUp(self) -> None:
        super().setUp()
        self.below = Authority(self.authority.directory, "below", self.authority)
        self.server_files = self.below.issue("server", ["localhost"])
        self.client_files = self.below.issue("client")

    def test_shown(self) -> None:
        """They follow in the file of the certificate, and both sides show them."""
        self.assert_met(Room(self.server()).meet(self.client()))

    def test_trusted(self) -> None:
        """It is enough that one of them is trusted."""
        below = self.below.ca_file
        self.assert_met(Room(self.server(trusted_ca_file=below)).meet(self.client(trusted_ca_file=below)))

    def test_not_shown(self) -> None:
        """One that is not shown cannot be guessed, not even from those that the other side trusts."""
        path = Path(self.client_files[0])
        first, end, _ = path.read_bytes().partition(b"-----END CERTIFICATE-----\n")
        path.write_bytes(first + end)
        self.assert_refused(f"{UNKNOWN}CN=client", self.client())

    def test_revoked(self) -> None:
        """A list counts for each of them."""
        self.authority.revoke(self.below.ca_file)
        self.assert_refused(
            "the certificate of CN=below is revoked", self.client(), crl_file=self.authority.crl_file()
        )


class FilesTests(TLSCase):
    """Files are read when they are loaded, and again when they change."""

    def test_building_opens_nothing(self) -> None:
        """A side that nobody has loaded needs no files."""
        options = TLSOptions(cert_file="nowhere", key_file="nowhere", trusted_ca_file="nowhere")
        ServerTLS(options)
        ClientTLS(options)

    def test_unusable(self) -> None:
        """Each unusable file is named, with what is wrong, by either side."""
        cert_file, key_file = self.server_files
        damaged = str(Path(self.mktemp()))
        Path(damaged).write_text("nonsense")
        _, other_key = self.client_files
        for options, text in (
            ({"cert_file": "nowhere"}, "^cannot read nowhere: No such file or directory$"),
            ({"key_file": "a\0b"}, "^cannot read a\0b: embedded null byte$"),
            ({"key_file": "nowhere"}, "^cannot read nowhere: No such file or directory$"),
            ({"trusted_ca_file": "nowhere"}, "^cannot read nowhere: No such file or directory$"),
            ({"cert_file": damaged}, f"^{damaged} holds no usable certificate: "),
            ({"key_file": damaged}, f"^{damaged} holds no usable private key: "),
            ({"trusted_ca_file": damaged}, f"^{damaged} holds no usable certificate: "),
            (
                {"key_file": other_key},
                f"^the key in {other_key} does not belong to the certificate in {cert_file}$",
            ),
        ):
            for side in (
                self.server(**options),
                ClientTLS(
                    TLSOptions(
                        **{  # type: ignore[arg-type]
                            "cert_file": cert_file,
                            "key_file": key_file,
                            "trusted_ca_file": self.authority.ca_file,
                            **options,
                        }
                    )
                ),
            ):
                self.assertRegex(str(self.assertRaises(TLSFileError, side.load)), text)
        error = self.assertRaises(TLSFileError, self.server(crl_file=damaged).load)
        self.assertRegex(str(error), f"^{damaged} holds no usable revocation list: ")

    def _replace(self, files: tuple[str, str], by: tuple[str, str]) -> None:
        for old, new in zip(files, by, strict=True):
            os.replace(new, old)

    def _shown(self, server: ServerTLS) -> str:
        _, client = Room(server).meet(self.client(skip_verify=True))
        shown = client.connection.get_peer_certificate(as_cryptography=True)
        assert shown is not None
        return shown.subject.rfc4514_string()

    def test_new_certificate(self) -> None:
        """The next connection is shown what the files hold by then; those that are open go on."""
        server = self.server()
        room = Room(server)
        earlier = room.meet(self.client())
        self._replace(self.server_files, self.authority.issue("new"))
        self.assertEqual("CN=new", self._shown(server))
        self.assert_met(earlier)

    def test_half_replaced(self) -> None:
        """A certificate without its key changes nothing yet, and is told once; with the key it counts."""
        server = self.server()
        server.load()
        new_cert, new_key = self.authority.issue("new")
        os.replace(new_cert, self.server_files[0])
        with capturedLogs() as logged:
            self.assertEqual(["CN=server"] * 2, [self._shown(server) for _ in range(2)])
        [line] = [formatEvent(event) for event in logged]
        self.assertRegex(
            line, "^Changed files of TLS cannot be used, the old ones stay: the key in .* does not belong to"
        )
        os.replace(new_key, self.server_files[1])
        self.assertEqual("CN=new", self._shown(server))

    def test_gone(self) -> None:
        """Without its files it goes on with what it has read."""
        server = self.server()
        server.load()
        shutil.rmtree(self.authority.directory)
        with capturedLogs() as logged:
            connection = server.serverConnectionForTLS(None)  # type: ignore[arg-type]
        self.assertIsNotNone(connection)
        [line] = [formatEvent(event) for event in logged]
        self.assertIn("cannot read", line)

    def test_new_list(self) -> None:
        """What has been revoked since is refused, without a restart."""
        server = self.server(crl_file=self.authority.crl_file())
        self.assert_met(Room(server).meet(self.client()))
        self.authority.revoke(self.client_files[0])
        self.authority.crl_file()
        refused, _ = Room(server).meet(self.client())
        self.assertEqual("the certificate of CN=client is revoked", refused.reason)

    def test_new_authority(self) -> None:
        """Either side looks at its authorities: it takes the new ones, and only those."""
        server, client = self.server(), self.client()
        self.assert_met(Room(server).meet(client))
        other = Authority(self.mktemp(), "other")
        os.replace(other.ca_file, self.authority.ca_file)
        _, refused = Room(server).meet(client)
        self.assertEqual(f"{UNKNOWN}CN=server", refused.reason)
        self._replace(self.server_files, other.issue("server", ["localhost"]))
        refused, _ = Room(server).meet(client)
        self.assertEqual(f"{UNKNOWN}CN=client", refused.reason)
        self._replace(self.client_files, other.issue("client"))
        self.assert_met(Room(server).meet(client))
