"""Who must not speak to members is refused, the log says once why, and nobody else is disturbed."""

from __future__ import annotations

import json
import os
import socket
import ssl
from contextlib import closing
from random import Random

from tests.certificates import Authority
from tests.interop.clusters import MEMBER_ADD, PUT, ClusterCase, Load, Members
from tests.interop.servers import wait_until
from twistedetcd.pb.rpc_pb2 import MemberAddRequest, PutRequest
from twistedetcd.protocols.frames import HELLO_BYTES_MAX, Hello, Kind, Lane, frame
from twistedetcd.protocols.peer import GREETING_SECONDS

PUTS = 10
SOCKET_SECONDS_MAX = 3 * GREETING_SECONDS
TRICKLE_SECONDS = 1.0
GARBAGE_BYTES = 40_000  # longer than any line of HTTP
SEED = 14
REJECTED = "rejected connection on peer endpoint from 127.0.0.1: "
Files = tuple[str, str]


class PeerCase(ClusterCase):
    """A cluster under load whose term must stay."""

    def begin(self, *names: str, tls: bool = True) -> Load:
        """Start it, with three members if none are named."""
        self.found(names or ("m1", "m2", "m3"), tls=tls)
        self.members.start()
        self.load = load = self.write()
        load.wait_for_more(PUTS, *self.members.servers)
        self.term = self.members.status("m1").raftTerm
        return load

    def assert_undisturbed(self) -> None:
        """All members serve, in the same term, and have the same."""
        self.load.wait_for_more(PUTS, *self.members.servers)
        for name in self.members.servers:
            self.assertEqual(self.term, self.members.status(name).raftTerm)
        self.settle(self.load)

    def rejections(self, name: str = "m1") -> list[str]:
        """Why a member has refused others, in order."""
        lines = [json.loads(line)["msg"] for line in self.members[name].log.read_text().splitlines()]
        said = [line.removeprefix(REJECTED) for line in lines if line.startswith(REJECTED)]
        # Both began to dial, or a member has ended in the middle of it.
        return [why for why in said if not why.startswith("the connection was lost")]

    def wait_for_rejection(self, reason: str, name: str = "m1") -> None:
        """Until a member has said, exactly once, that it refuses somebody for a reason."""
        wait_until(lambda: any(reason in why for why in self.rejections(name)), reason)
        self.assertEqual(1, sum(reason in why for why in self.rejections(name)), self.rejections(name))

    def dial(self, name: str = "m1") -> socket.socket:
        """A connection to where a member listens for others."""
        dialed = socket.create_connection(("127.0.0.1", self.members.ports[name].peer), SOCKET_SECONDS_MAX)
        self.addCleanup(dialed.close)
        return dialed

    def secured(self, files: Files, name: str = "m1") -> ssl.SSLSocket:
        """The same, with a certificate."""
        context = ssl.create_default_context(cafile=self.members.authority.ca_file)
        context.load_cert_chain(*files)
        return context.wrap_socket(self.dial(name), server_hostname="127.0.0.1")

    def assert_hung_up(self, connection: socket.socket) -> bytes:
        """The other end ends it; returns what it said before that."""
        said = b""
        try:
            while data := connection.recv(4096):
                said += data
        except TimeoutError:
            self.fail("it does not hang up")
        except OSError:
            pass  # a reset is an end, too
        return said

    def hello(self, cluster: int, name: str = "m1") -> bytes:
        """The first frame of a member of some cluster."""
        to = self.members.id(name)
        return frame(Kind.HELLO, Hello(cluster, 0x77, to, Lane.URGENT, "3.6.0").encode())


class CertificateTests(PeerCase):
    """A member talks only to whom its flags allow."""

    def test_refused(self) -> None:
        """Without a certificate, or with one that is not good enough, nobody is let in."""
        self.found(["m1", "m2"])
        authority = self.members.authority
        for name in self.members.servers:
            authority.issue(name, ["127.0.0.1", "localhost"], cn="member")
        revoked = authority.issue("revoked", cn="member")
        authority.revoke(revoked[0])
        flags = ["--peer-cert-allowed-cn=member", f"--peer-crl-file={authority.crl_file()}"]
        for server in self.members.servers.values():
            server.run(*flags)
        for name in self.members.servers:
            self.members.wait_ready(name)
        self.load = self.write()
        self.load.wait_for_more(PUTS, *self.members.servers)
        self.term = self.members.status("m1").raftTerm
        stranger = Authority(self.mktemp(), "other").issue("stranger", cn="member")
        for files, reason in (
            (stranger, "no authority that is trusted here has signed the certificate of CN=member"),
            (authority.issue("wrong"), "the certificate of CN=wrong has none of the common names"),
            (authority.issue("late", cn="member", days=-1), "the certificate of CN=member has expired on "),
            (revoked, "the certificate of CN=member is revoked"),
        ):
            for _ in range(2):
                with self.assertRaises(OSError), self.secured(files) as connection:
                    connection.sendall(self.hello(1))
                    raise OSError(self.assert_hung_up(connection))
            self.wait_for_rejection(reason)
        self.assertEqual(4, len(self.rejections()))
        self.assert_undisturbed()

    def test_member_with_another_authority(self) -> None:
        """A member whose certificate is of somebody else's is out until it has a good one."""
        load = self.begin()
        leader = self.members.leader()
        name = next(name for name in self.members.servers if name != leader)
        load.leave(name)
        self.members.stop(name)
        other = Authority(self.mktemp(), "other")
        cert_file, key_file = other.issue("stranger", ["127.0.0.1"])
        server = self.members[name]
        server.run(f"--peer-cert-file={cert_file}", f"--peer-key-file={key_file}")
        reason = "no authority that is trusted here has signed the certificate of CN=stranger"
        self.wait_for_rejection(reason, leader)
        load.wait_for_more(PUTS)
        self.assertEqual(self.term, self.members.status(leader).raftTerm)
        self.members.kill(name)
        self.members.start(name)
        load.write_through(name)
        self.assert_undisturbed()

    def test_replaced(self) -> None:
        """Files that are replaced are used for new connections, without a restart."""
        load = self.begin()
        authority = self.members.authority
        for name in self.members.servers:
            new = authority.issue("renewed", ["127.0.0.1"], cn=f"renewed {name}")
            for path, suffix in zip(new, ("crt", "key"), strict=True):
                os.replace(path, authority.directory / f"{name}.{suffix}")
        files = authority.issue("visitor")
        for name in self.members.servers:
            with self.secured(files, name) as connection:
                [[[_, common_name]]] = connection.getpeercert()["subject"]  # type: ignore[index]
                self.assertEqual(f"renewed {name}", common_name)
        # Another member has to be dialed anew, and shown the new one.
        follower = next(name for name in self.members.servers if name != self.members.leader())
        self.members.stop(follower)
        self.members.start(follower)
        load.wait_for_more(PUTS, follower)
        self.assert_undisturbed()

    def test_auto(self) -> None:
        """With certificates that the members have made for themselves, they form a cluster."""
        members = self.found(flags=["--peer-auto-tls"], certificates=False)
        members.start()
        for name in members.servers:
            self.assertEqual("OK\n", members.etcdctl("put", name, "1", endpoints=[name]).stdout)
        done = members.etcdctl("get", "m", "--prefix", "--keys-only")
        self.assertEqual(["m1", "m2", "m3"], done.stdout.split(), done.stderr)
        for name in members.servers:
            self.assertEqual([], self.rejections(name))
        # A certificate that is in nobody's list is shown, and there is no way in without TLS.
        with closing(self.dial()) as connection:
            connection.sendall(self.hello(1))
            self.assert_hung_up(connection)
        self.wait_for_rejection("plain text, not TLS")


class PortTests(PeerCase):
    """Whatever comes to a peer port, it is answered by a hang-up, and costs nobody anything."""

    def test_with_tls(self) -> None:
        """Plain text, garbage, half a handshake."""
        self.begin("m1", "m2")
        for data, reason in (
            (b"GET /members HTTP/1.1\r\n\r\n", "plain text, not TLS"),
            (frame(Kind.HELLO, b"{}"), "plain text, not TLS"),
        ):
            with closing(self.dial()) as connection:
                connection.sendall(data)
                self.assert_hung_up(connection)
            self.wait_for_rejection(reason)
        with closing(self.dial()) as silent:
            self.assert_hung_up(silent)
        self.wait_for_rejection("the handshake did not end in time")
        good = self.members.authority.issue("visitor")
        with self.secured(good) as connection:
            connection.sendall(self.hello(0xBAD))
            self.assertIn(b"cluster ID mismatch", self.assert_hung_up(connection))
        self.wait_for_rejection("cluster ID mismatch: bad meets ")
        self.assert_undisturbed()

    def test_without_tls(self) -> None:
        """TLS, members of other clusters, garbage, frames that are too long, and a trickle."""
        self.begin("m1", "m2", tls=False)
        for data, reason in (
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), "it speaks TLS, which is not"),
            (self.hello(0xBAD), "cluster ID mismatch: bad meets "),
            (frame(Kind.HELLO, b"[" * 4000), "what it says of itself cannot be read"),
            (b"\0\0\0\x02\xff\0", "a frame of kind 255, which is not known"),
            (frame(Kind.MESSAGE, b"x"), "it begins with a frame of kind MESSAGE"),
            (
                b"\0\x10\0\0" + bytes(100),
                f"a frame of 1048576 bytes, where 1 to {HELLO_BYTES_MAX} are allowed",
            ),
        ):
            for _ in range(2):
                with closing(self.dial()) as connection:
                    connection.sendall(data)
                    self.assert_hung_up(connection)
            self.wait_for_rejection(reason)
        with closing(self.dial()) as connection:
            connection.sendall(b"x" + Random(SEED).randbytes(GARBAGE_BYTES))
            self.assert_hung_up(connection)
        # A byte at a time, in real time: it must have said who it is before its time is over.
        with closing(self.dial()) as connection:
            connection.settimeout(TRICKLE_SECONDS)
            hung_up = False
            for number in range(int(2 * GREETING_SECONDS / TRICKLE_SECONDS)):
                connection.sendall(bytes(frame(Kind.HELLO, b"{" * 100)[number : number + 1]))
                try:
                    if not connection.recv(1):
                        hung_up = True
                except TimeoutError:
                    continue
                except OSError:
                    hung_up = True
                if hung_up:
                    break
            self.assertTrue(hung_up)
        self.wait_for_rejection(f"it did not say who it is within {GREETING_SECONDS:g} s")
        self.assert_undisturbed()

    def test_another_cluster(self) -> None:
        """A member of another cluster, which thinks that this one is part of it, is turned away."""
        self.begin("m1", "m2", tls=False)
        other = Members(self.mktemp(), ["x"], tls=False)
        self.addCleanup(other.clean_up)
        other.start()
        request = MemberAddRequest(peerURLs=[self.members.peer_url("m1")], isLearner=True)
        other["x"].call(MEMBER_ADD, request)
        self.wait_for_rejection("cluster ID mismatch: ")
        wait_until(lambda: "cluster ID mismatch: " in other["x"].log.read_text(), "it to say so")
        other["x"].call(PUT, PutRequest(key=b"a"))
        self.assert_undisturbed()
