"""The member as a process: how it starts, what it says when it cannot, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import grpc  # type: ignore[import-untyped]
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interop.servers import ENVIRONMENT, READY, Server, our_server, script, wait_until
from twistedetcd.pb.rpc_pb2 import PutRequest, RangeRequest

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
END_SECONDS_MAX = 15.0
MESSAGE_BYTES_MAX = 2_097_152


class ProcessCase(SynchronousTestCase):
    """A member of ours as a process."""

    afresh = False
    """Whether the console script itself is run."""

    def setUp(self) -> None:
        self.server = self.make()

    def make(self, *program: str) -> Server:
        """Another one."""
        server = our_server(self.mktemp(), program, afresh=self.afresh)
        self.addCleanup(server.clean_up)
        return server

    def fails_to_start(self, server: Server, *flags: str) -> str:
        """Run it; returns the one sentence that it ends with, after checking its exit status."""
        process = server.run(*flags)
        self.assertEqual(1, process.wait(END_SECONDS_MAX), server.log.read_text())
        server.process = None
        output = server.log.read_text()
        self.assertNotIn("Traceback", output)
        [sentence] = [
            line["msg"]
            for line in map(json.loads, output.splitlines())
            if line["level"] in ("error", "fatal")
        ]
        self.assertNotIn("\n", sentence)
        return str(sentence)

    def refusal(self, path: str, raw: bytes) -> tuple[grpc.StatusCode, str]:
        """The status a call is refused with."""
        call = self.server.channel.unary_unary(path)
        with self.assertRaises(grpc.RpcError) as caught:
            call(raw, timeout=END_SECONDS_MAX)
        return caught.exception.code(), caught.exception.details()


class LifeTests(ProcessCase):
    """A process that serves ends when it is told to, and by the signal that told it."""

    afresh = True

    def test_console_script(self) -> None:
        """`twistedetcd` serves, and dies by SIGTERM or SIGINT after it has let everything go."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.server.start()
            self.server.call(PUT, PutRequest(key=b"a", value=b"%d" % number))
            self.assertEqual(-number, self.server.stop(number))
            self.server.start()
            self.assertEqual(
                b"%d" % number, self.server.call(RANGE, RangeRequest(key=b"a")).kvs[0].value, number
            )
            self.server.stop()

    def test_ends_while_clients_stay(self) -> None:
        """An open connection without calls in progress does not hold the process up."""
        self.server.start()
        self.server.call(PUT, PutRequest(key=b"a"))
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGTERM)
        self.assertEqual(-signal.SIGTERM, self.server.process.wait(5.0))

    def test_twistd_daemon(self) -> None:
        """`twistd etcd` goes into the background, serves, and on SIGTERM takes its pid file with it."""
        pid_file, log = Path(self.mktemp()).absolute(), Path(self.mktemp()).absolute()
        server = self.make(script("twistd"), f"--pidfile={pid_file}", f"--logfile={log}", "etcd")
        self.assertEqual(0, server.run().wait(END_SECONDS_MAX), server.log.read_text())
        server.process = None
        wait_until(lambda: log.exists() and READY in log.read_bytes(), "the daemon to serve", log)
        pid = int(pid_file.read_text())

        def kill() -> None:
            if pid_file.exists():
                os.kill(pid, signal.SIGKILL)

        self.addCleanup(kill)
        server.call(PUT, PutRequest(key=b"a", value=b"1"))
        self.assertEqual(b"1", server.call(RANGE, RangeRequest(key=b"a")).kvs[0].value)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not pid_file.exists(), "the daemon to end", log)
        self.assertNotIn("Traceback", log.read_text())

    def test_twistd_daemon_that_cannot_start(self) -> None:
        """The shell that starts a daemon hears that it could not start, and no pid file stays."""
        self.server.start()
        pid_file, log = Path(self.mktemp()).absolute(), Path(self.mktemp()).absolute()
        server = self.make(script("twistd"), f"--pidfile={pid_file}", f"--logfile={log}", "etcd")
        process = server.run(f"--data-dir={self.server.directory / 'data'}")
        self.assertEqual(1, process.wait(END_SECONDS_MAX), server.log.read_text())
        server.process = None
        self.assertIn("CannotStartError", server.log.read_text())  # twistd cuts the sentence short
        self.assertIn("in use by another process", log.read_text())
        self.assertNotIn("Traceback", log.read_text())
        self.assertFalse(pid_file.exists())


class RefusedStartTests(ProcessCase):
    """What keeps a member from starting is said in one sentence, with the exit status that scripts know."""

    def run_script(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the console script to its end."""
        return subprocess.run(
            [script("twistedetcd"), *arguments],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=END_SECONDS_MAX,
        )

    def test_bad_flag(self) -> None:
        """A flag that does not exist, or a value that does not parse, ends it with status 2."""
        for flag, reason in (
            ("--no-such-flag", "flag provided but not defined: -no-such-flag"),
            ("--max-txn-ops=x", 'invalid value "x" for flag -max-txn-ops'),
        ):
            done = self.run_script(flag)
            self.assertEqual(2, done.returncode, done)
            self.assertIn(reason, done.stderr)

    def test_stray_argument(self) -> None:
        """A word that is no flag ends it with status 1."""
        done = self.run_script("word")
        self.assertEqual(1, done.returncode, done)
        self.assertEqual('"word" is not a valid flag\n', done.stderr)

    def test_locked_data_directory(self) -> None:
        """A second member on the same data is refused, and the first one goes on."""
        self.server.start()
        second = self.make()
        sentence = self.fails_to_start(second, f"--data-dir={self.server.data}")
        self.assertIn("another process", sentence.lower())
        self.assertIn(str(self.server.data), sentence)
        self.server.call(PUT, PutRequest(key=b"a"))

    def test_foreign_file_in_the_log(self) -> None:
        """A directory that holds something else is left alone, and the file is named."""
        wal = self.server.data / "member" / "wal"
        wal.mkdir(parents=True)
        (wal / "notes.txt").write_text("mine")
        self.assertIn("notes.txt", self.fails_to_start(self.server))
        self.assertEqual(["notes.txt"], [path.name for path in wal.iterdir()])

    def test_data_directory_that_is_none(self) -> None:
        """A file in the place of the data directory is named."""
        self.server.data.write_text("")
        self.assertIn(str(self.server.data), self.fails_to_start(self.server))

    def test_unreadable_data_directory(self) -> None:
        """A directory without permission is named."""
        for path in ("", "member", "member/wal", "member/snap"):
            server = self.make(*without_privileges(), script("twistedetcd"))
            directory = server.data / path
            directory.mkdir(parents=True)
            directory.chmod(0)
            self.addCleanup(directory.chmod, 0o700)
            sentence = self.fails_to_start(server)
            self.assertIn("Permission denied", sentence)
            self.assertIn(str(directory), sentence)

    def test_port_in_use(self) -> None:
        """A port that somebody listens on is named."""
        self.server.start()
        second = self.make()
        url = f"http://{self.server.endpoint}"
        sentence = self.fails_to_start(
            second, f"--listen-client-urls={url}", f"--advertise-client-urls={url}"
        )
        self.assertIn(self.server.endpoint, sentence)

    def test_store_without_its_log(self) -> None:
        """A store whose log was removed is refused: it would forget what it promised."""
        self.server.start()
        self.server.call(PUT, PutRequest(key=b"a"))
        self.server.stop()
        for path in (self.server.data / "member" / "wal").iterdir():
            path.unlink()
        self.assertIn("log", self.fails_to_start(self.server))


def without_privileges() -> tuple[str, ...]:
    """
    What to put before a command so that permissions count for it.

    Raises:
        SkipTest: We are root, and nothing can take that from a command.
    """
    if os.geteuid():
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise SkipTest("root may read everything; needs setpriv, or another user")
    privileges = "-dac_override,-dac_read_search"
    return setpriv, f"--bounding-set={privileges}", f"--inh-caps={privileges}"


class WireTests(ProcessCase):
    """What is not a request of etcd's is answered as etcd does."""

    def setUp(self) -> None:
        super().setUp()
        self.server.start("--unsafe-no-fsync")

    def get(self, path: str) -> tuple[int, str | None, bytes]:
        """Status, content type and body over HTTP/1.1."""
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=END_SECONDS_MAX)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.getheader("Content-Type"), response.read()
        finally:
            connection.close()

    def test_health(self) -> None:
        """`/health` on the client port tells that the member serves."""
        status, _, body = self.get("/health")
        self.assertEqual((200, {"health": "true", "reason": ""}), (status, json.loads(body)))
        self.assertEqual((status, body), self.get("/health?serializable=true")[::2])

    def test_version(self) -> None:
        """`/version` names the server's, the cluster's and the storage's version."""
        status, kind, body = self.get("/version")
        self.assertEqual((200, "application/json"), (status, kind))
        versions = json.loads(body)
        self.assertEqual({"etcdserver", "etcdcluster", "storage"}, set(versions))
        self.assertTrue(all(version.startswith("3.6.") for version in versions.values()), versions)

    def test_no_such_page(self) -> None:
        """Everything else is not found."""
        self.assertEqual((404, b"404 page not found\n"), self.get("/nothing")[::2])

    def test_message_too_large(self) -> None:
        """A message above the limit is refused with both sizes, and the connection stays."""
        raw = PutRequest(key=b"a", value=bytes(MESSAGE_BYTES_MAX)).SerializeToString()
        expected = f"grpc: received message larger than max ({len(raw)} vs. {MESSAGE_BYTES_MAX})"
        self.assertEqual((grpc.StatusCode.RESOURCE_EXHAUSTED, expected), self.refusal(PUT, raw))
        self.server.call(PUT, PutRequest(key=b"a"))

    def test_request_too_large(self) -> None:
        """A request above the limit is refused, and writes nothing."""
        raw = PutRequest(key=b"a", value=bytes(1_572_864)).SerializeToString()
        expected = (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large")
        self.assertEqual(expected, self.refusal(PUT, raw))
        self.assertEqual(0, self.server.call(RANGE, RangeRequest(key=b"a")).count)

    def test_unknown_method(self) -> None:
        """A method or a service that does not exist is named."""
        for path, text in (
            ("/etcdserverpb.KV/Foo", "unknown method Foo for service etcdserverpb.KV"),
            ("/foo.Bar/Baz", "unknown service foo.Bar"),
        ):
            self.assertEqual((grpc.StatusCode.UNIMPLEMENTED, text), self.refusal(path, b""))
