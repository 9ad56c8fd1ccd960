"""The load generator that the benchmark uses: another HTTP/2 implementation, with many streams at once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interop.servers import our_server
from twistedetcd.pb.rpc_pb2 import PutRequest, RangeRequest
from twistedetcd.testing.bench.load import parse_h2load

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
REQUESTS = 2000


class H2LoadTests(SynchronousTestCase):
    """h2load counts HTTP statuses only, so the store's revision says what really happened."""

    def test_every_put_counts(self) -> None:
        """Of puts from four connections with 50 streams each, every one raises the revision by one."""
        program = shutil.which("h2load")
        if program is None:
            raise SkipTest("h2load is not here (Debian: nghttp2-client)")
        server = our_server(self.mktemp())
        self.addCleanup(server.clean_up)
        server.start()
        before = server.call(RANGE, RangeRequest(key=b"k")).header.revision
        message = PutRequest(key=b"k", value=b"v" * 256).SerializeToString()
        body = Path(self.mktemp())
        body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
        command = [program, f"-n{REQUESTS}", "-c4", "-m50", "-d", str(body)]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        command += [f"http://127.0.0.1:{server.port}{PUT}"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        self.assertEqual(REQUESTS, parse_h2load(output).succeeded, output)
        answer = server.call(RANGE, RangeRequest(key=b"k"))
        self.assertEqual(before + REQUESTS, answer.header.revision)
        self.assertEqual(REQUESTS, answer.kvs[0].version)
