"""
A load generator whose calls each carry a different ``grpc-timeout``; ``h2load`` cannot do that.

A process reads jobs, each a line of JSON with the fields of `Job`.  For each it makes a connection and all
frames, says ``ready``, waits for a line, sends, and writes its `Tally` as one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import NamedTuple

from twistedetcd.testing.bench.changing import ChangingEncoder, timeouts
from twistedetcd.testing.bench.client import Client, request_frames, request_headers

READY = "ready\n"


class Tally(NamedTuple):
    """
    What one generator did.

    Attributes:
        seconds: From the first byte sent to the last answer.
        cpu_seconds: CPU time that the process used meanwhile.
        succeeded: Calls that ended with status 0.
        data_bytes: Of all DATA frames received.
    """

    seconds: float
    cpu_seconds: float
    succeeded: int
    data_bytes: int


class Job(NamedTuple):
    """
    What one generator shall do.

    Attributes:
        port: Of the server, on this machine.
        path: Of the method.
        message: The request in hexadecimal digits; the same for all calls.
        requests: How many calls to make.
        streams: How many at a time.
    """

    port: int
    path: str
    message: str
    requests: int
    streams: int


class Blocks:
    """
    The header blocks of a connection's first requests; each has its own ``grpc-timeout``.

    They are the same for every connection to one method of one server, so they are made once.
    """

    def __init__(self, path: bytes, authority: bytes) -> None:
        self._headers = request_headers(path, authority)
        self._encoder = ChangingEncoder()
        self._timeouts = timeouts()
        self._made: list[bytes] = []

    def first(self, count: int) -> list[bytes]:
        """The blocks of the first ``count`` requests."""
        while len(self._made) < count:
            timeout = (b"grpc-timeout", next(self._timeouts))
            self._made.append(self._encoder.encode([*self._headers, timeout]))
        return self._made[:count]


def run(client: Client, frames: list[bytes], body_bytes: int, streams: int) -> Tally:
    """Send all requests, ``streams`` at a time."""
    succeeded = data_bytes = 0
    began, cpu_began = time.perf_counter(), time.process_time()
    for answer in client.exchange(frames, body_bytes, streams):
        succeeded += answer.ok
        data_bytes += len(answer.body)
    return Tally(time.perf_counter() - began, time.process_time() - cpu_began, succeeded, data_bytes)


def main() -> None:
    made: dict[tuple[int, str], Blocks] = {}
    for line in iter(sys.stdin.readline, ""):
        job = Job(**json.loads(line))
        target = (job.port, job.path)
        if target not in made:
            made[target] = Blocks(job.path.encode(), b"127.0.0.1:%d" % job.port)
        message = bytes.fromhex(job.message)
        frames = [
            request_frames(2 * number + 1, block, message)
            for number, block in enumerate(made[target].first(job.requests))
        ]
        client = Client(job.port)
        _write(READY)
        sys.stdin.readline()
        tally = run(client, frames, 5 + len(message), job.streams)
        _write(json.dumps(tally._asdict()) + "\n")
        client.close()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
