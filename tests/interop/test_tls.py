"""A member that serves clients by TLS: those of etcd, gRPC and Python, with what it asks for and without."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import grpc  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.certificates import CLIENT_ONLY, SERVER_ONLY, Authority
from tests.interop.servers import (
    ENVIRONMENT,
    Server,
    etcdctls,
    our_server,
    reference_server,
    wait_until,
)
from twistedetcd.pb.rpc_pb2 import PutRequest, PutResponse
from twistedetcd.protocols.certificates import common_name

PUT = "/etcdserverpb.KV/Put"
COMMAND_SECONDS_MAX = 30.0
Files = tuple[str, str]


class TLSCase(SynchronousTestCase):
    """A member of ours with an https URL, an authority, and a client that it has signed."""

    def setUp(self) -> None:
        self.authority = Authority(self.mktemp())
        self.server_files = self.authority.issue("server", ["127.0.0.1", "localhost"])
        self.client_files = self.authority.issue("client")
        self.server = our_server(self.mktemp(), scheme="https")
        self.addCleanup(self.server.clean_up)

    def start(self, *flags: str) -> None:
        """Have it serve with the certificate of the authority."""
        cert_file, key_file = self.server_files
        self.server.start(f"--cert-file={cert_file}", f"--key-file={key_file}", *flags)

    def start_demanding(self, *flags: str) -> None:
        """Have it demand certificates of the authority."""
        self.start("--client-cert-auth", f"--trusted-ca-file={self.authority.ca_file}", *flags)

    def rejections(self) -> list[str]:
        """What it has said of clients that were refused."""
        lines = [json.loads(line) for line in self.server.log.read_text().splitlines()]
        said = [line for line in lines if line["msg"].startswith("rejected connection on client endpoint: ")]
        self.assertEqual({"warn"}, {line["level"] for line in said} or {"warn"})
        return [line["error"] for line in said]

    def assert_rejected(self, pattern: str) -> None:
        """It has said once why it refuses the client, which may have ended in the middle of another try."""
        wait_until(lambda: bool(self.reasons()), "a rejection", self.server.log)
        [reason] = self.reasons()
        self.assertRegex(reason, pattern)

    def reasons(self) -> list[str]:
        """Why, those tries left out."""
        return [said for said in self.rejections() if not said.startswith("the connection was lost")]

    def context(self, files: Files | None = None) -> ssl.SSLContext:
        """What Python's own TLS needs."""
        context = ssl.create_default_context(cafile=self.authority.ca_file)
        if files is not None:
            context.load_cert_chain(*files)
        return context

    def health(self, context: ssl.SSLContext) -> bytes:
        """Ask over HTTP/1.1."""
        with urllib.request.urlopen(f"https://{self.server.endpoint}/health", context=context) as answer:
            return bytes(answer.read())

    def secured(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """A connection of its own."""
        plain = socket.create_connection(("127.0.0.1", self.server.port), COMMAND_SECONDS_MAX)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def shown(self) -> str:
        """The common name of the certificate that a new connection is shown."""
        with self.secured(self.context(self.client_files)) as connection:
            found = connection.getpeercert(binary_form=True)
        assert found is not None
        return common_name(x509.load_der_x509_certificate(found))

    def put(self, files: Files | None = None) -> PutResponse:
        """Put a key with grpcio, on a connection of its own."""
        read = [Path(path).read_bytes() for path in files or ()]
        cert, key = read or (None, None)
        root = Path(self.authority.ca_file).read_bytes()
        credentials = grpc.ssl_channel_credentials(root, key, cert)
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        with grpc.secure_channel(self.server.endpoint, credentials, options) as channel:
            handle = channel.unary_unary(
                PUT,
                request_serializer=PutRequest.SerializeToString,
                response_deserializer=PutResponse.FromString,
            )
            answer: PutResponse = handle(PutRequest(key=b"a", value=b"v"), timeout=COMMAND_SECONDS_MAX)
            return answer

    def assert_cannot_put(self, files: Files | None = None) -> None:
        """grpcio does not get through."""
        with self.assertRaises(grpc.RpcError) as caught:
            self.put(files)
        self.assertEqual(grpc.StatusCode.UNAVAILABLE, caught.exception.code())

    def etcdctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Debian's client, or whichever there is."""
        if not etcdctls():
            raise SkipTest("needs etcdctl")
        program = etcdctls()[min(etcdctls())]
        return subprocess.run(
            [program, f"--endpoints=https://{self.server.endpoint}", "--command-timeout=2s", *arguments],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            env={**ENVIRONMENT, "ETCDCTL_API": "3"},
        )

    def shows(self, files: Files) -> list[str]:
        """The flags with which etcdctl shows a certificate."""
        return [f"--cacert={self.authority.ca_file}", f"--cert={files[0]}", f"--key={files[1]}"]


class ServedTests(TLSCase):
    """Whoever has what is asked for is served."""

    def test_certificate(self) -> None:
        """Every client with a certificate of the authority, on the one port."""
        self.start_demanding()
        done = self.etcdctl(*self.shows(self.client_files), "put", "a", "1")
        self.assertEqual((0, "OK\n"), (done.returncode, done.stdout), done.stderr)
        self.assertEqual(3, self.put(self.client_files).header.revision)
        self.assertEqual(b'{"health":"true","reason":""}', self.health(self.context(self.client_files)))
        self.assertEqual([], self.rejections())

    def test_none_needed(self) -> None:
        """Nobody needs a certificate where none is asked for."""
        self.start()
        done = self.etcdctl(f"--cacert={self.authority.ca_file}", "put", "a", "1")
        self.assertEqual((0, "OK\n"), (done.returncode, done.stdout), done.stderr)
        self.assertEqual(3, self.put().header.revision)
        self.assertEqual(b'{"health":"true","reason":""}', self.health(self.context()))

    def test_http_by_alpn(self) -> None:
        """Whoever offers both, as curl does, gets HTTP/1.1; whoever offers HTTP/2 alone gets that."""
        self.start()
        for offered, agreed in {("h2", "http/1.1"): "http/1.1", ("h2",): "h2"}.items():
            context = self.context()
            context.set_alpn_protocols(list(offered))
            with self.secured(context) as connection:
                self.assertEqual(agreed, connection.selected_alpn_protocol())

    def test_versions(self) -> None:
        """Only versions that are allowed are spoken."""
        self.start("--tls-min-version=TLS1.3")
        context = self.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.assertRaises(urllib.error.URLError, self.health, context)
        self.assert_rejected("^there is no version of TLS that both sides speak$")
        self.health(self.context())

    def test_auto(self) -> None:
        """A certificate made by the member serves those who trust it, after a restart too."""
        self.server.start("--auto-tls")
        made = self.server.data / "fixtures" / "client" / "cert.pem"
        for _ in range(2):
            context = ssl.create_default_context(cafile=str(made))
            self.assertEqual(b'{"health":"true","reason":""}', self.health(context))
            done = self.etcdctl("--insecure-skip-tls-verify", "--insecure-transport=false", "put", "a", "1")
            self.assertEqual((0, "OK\n"), (done.returncode, done.stdout), done.stderr)
            before = made.read_bytes()
            self.server.stop()
            self.server.start("--auto-tls")
            self.assertEqual(before, made.read_bytes())


class RefusedTests(TLSCase):
    """Whoever has not is refused in the handshake, and the log says once why."""

    def test_no_certificate(self) -> None:
        """No client gets in without a certificate, and trying again fills no log."""
        self.start_demanding()
        self.assert_cannot_put()
        self.assertNotEqual(0, self.etcdctl(f"--cacert={self.authority.ca_file}", "get", "a").returncode)
        self.assertRaises(OSError, self.health, self.context())
        self.assert_rejected("^no certificate was shown, and one is demanded$")

    def test_wrong_authority(self) -> None:
        """No client gets in with a certificate of somebody else."""
        self.start_demanding()
        stranger = Authority(self.mktemp(), "other").issue("stranger")
        self.assert_cannot_put(stranger)
        self.assertNotEqual(0, self.etcdctl(*self.shows(stranger), "get", "a").returncode)
        self.assert_rejected("^no authority that is trusted here has signed the certificate of CN=stranger$")
        self.put(self.client_files)

    def test_expired(self) -> None:
        """No client gets in after its time."""
        self.start_demanding()
        late = self.authority.issue("late", days=-1)
        self.assert_cannot_put(late)
        self.assertNotEqual(0, self.etcdctl(*self.shows(late), "get", "a").returncode)
        self.assert_rejected("^the certificate of CN=late has expired on ")

    def test_revoked(self) -> None:
        """A certificate that is revoked while the member runs is refused from then on."""
        self.start_demanding(f"--client-crl-file={self.authority.crl_file()}")
        self.put(self.client_files)
        self.authority.revoke(self.client_files[0])
        self.authority.crl_file()
        self.assert_cannot_put(self.client_files)
        self.assertNotEqual(0, self.etcdctl(*self.shows(self.client_files), "get", "a").returncode)
        self.assert_rejected("^the certificate of CN=client is revoked$")

    def test_host(self) -> None:
        """If hosts are allowed, a client's certificate is for one of them."""
        self.start_demanding("--client-cert-allowed-hostname=good.example.com")
        self.assert_cannot_put(self.client_files)
        self.assert_rejected("^the certificate of CN=client is for none of the hosts that are allowed$")
        self.put(self.authority.issue("good", ["*.example.com"]))

    def test_plain_text(self) -> None:
        """What is not TLS ends its connection, and no other."""
        self.start()
        with socket.create_connection(("127.0.0.1", self.server.port), COMMAND_SECONDS_MAX) as plain:
            plain.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            while plain.recv(1024):
                pass
        self.assert_rejected("^what came was plain text, not TLS$")
        self.put()

    def test_tls_on_a_plain_port(self) -> None:
        """A client that begins with TLS where there is none hears so, and is hung up on."""
        server = our_server(self.mktemp())
        self.addCleanup(server.clean_up)
        server.start()
        plain = socket.create_connection(("127.0.0.1", server.port), COMMAND_SECONDS_MAX)
        with plain, self.assertRaises(ssl.SSLError):
            self.context().wrap_socket(plain, server_hostname="127.0.0.1")
        server.call(PUT, PutRequest(key=b"a"))


class VerdictTests(TLSCase):
    """A real etcd with the same flags lets in the same clients."""

    def lets_in(self, server: Server, files: Files) -> bool:
        """Whether a client with this certificate gets an answer."""
        context = self.context(files)
        try:
            with urllib.request.urlopen(f"https://{server.endpoint}/version", context=context):
                return True
        except OSError:
            return False

    def verdicts(self, *flags: str) -> tuple[dict[str, bool], dict[str, bool]]:
        """Whom etcd lets in and whom we do, by the names of the certificates."""
        other, below = Authority(self.mktemp(), "other"), Authority(self.mktemp(), "below", self.authority)
        clients = {
            "good": self.client_files,
            "stranger": other.issue("stranger"),
            "late": self.authority.issue("late", days=-1),
            "early": self.authority.issue("early", begins_in_days=1),
            "for servers": self.authority.issue("servers", usages=SERVER_ONLY),
            "for clients": self.authority.issue("clients", usages=CLIENT_ONLY),
            "for anything": self.authority.issue("anything", usages=()),
            "chain": below.issue("chain"),
            "revoked": self.authority.issue("revoked"),
            "host": self.authority.issue("host", ["a.example.com"]),
            "wildcard": self.authority.issue("wildcard", ["*.example.com"]),
            "short wildcard": self.authority.issue("short", ["*.com"]),
            "partial wildcard": self.authority.issue("partial", ["a*.example.com"]),
            "address": self.authority.issue("address", ["10.0.0.1"]),
            "common name": self.authority.issue("common", cn="a.example.com"),
        }
        self.authority.revoke(clients["revoked"][0])
        given = [f"--cert-file={self.server_files[0]}", f"--key-file={self.server_files[1]}", *flags]
        found = []
        for make in (reference_server, our_server):
            server = make(self.mktemp(), scheme="https")
            self.addCleanup(server.clean_up)
            server.start(f"--client-crl-file={self.authority.crl_file(Encoding.DER)}", *given)
            found.append({name: self.lets_in(server, files) for name, files in clients.items()})
        return found[0], found[1]

    def test_authority(self) -> None:
        """Where certificates must be signed by an authority."""
        etcds, ours = self.verdicts(f"--trusted-ca-file={self.authority.ca_file}")
        self.assertEqual(etcds, ours)
        refused = {name for name, is_in in ours.items() if not is_in}
        self.assertEqual({"stranger", "late", "early", "for servers", "revoked"}, refused)

    def test_hosts(self) -> None:
        """Where they must also be for one of some hosts."""
        etcds, ours = self.verdicts(
            f"--trusted-ca-file={self.authority.ca_file}",
            "--client-cert-auth",
            "--client-cert-allowed-hostname=a.example.com",
        )
        self.assertEqual(etcds, ours)
        self.assertEqual({"host", "wildcard"}, {name for name, is_in in ours.items() if is_in})


class ReloadTests(TLSCase):
    """A certificate is renewed by replacing its files."""

    def test_replaced(self) -> None:
        """New connections are shown the new one; between the two files the old one stays in use."""
        self.start_demanding()
        self.assertEqual("server", self.shown())
        cert_file, key_file = self.authority.issue("renewed", ["127.0.0.1"])
        os.replace(cert_file, self.server_files[0])
        self.assertEqual("server", self.shown())
        os.replace(key_file, self.server_files[1])
        self.assertEqual("renewed", self.shown())
        self.put(self.client_files)
        said = self.server.log.read_text()
        self.assertEqual(1, said.count("Changed files of TLS cannot be used, the old ones stay: "), said)
