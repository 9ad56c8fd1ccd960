"""The example of a service that is not etcd's, run as it is and called by grpcio."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.servers import ENVIRONMENT

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "greeter.py"
SECONDS_MAX = 10.0


class GreeterTests(SynchronousTestCase):
    """Each kind of call."""

    def setUp(self) -> None:
        spec = spec_from_file_location("greeter", EXAMPLE)
        assert spec is not None and spec.loader is not None
        module: Any = module_from_spec(spec)
        spec.loader.exec_module(module)
        self.text = module.Text
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLE)], stdout=subprocess.PIPE, env=ENVIRONMENT, text=True
        )
        self.addCleanup(self.process.wait, SECONDS_MAX)
        self.addCleanup(self.process.kill)
        assert self.process.stdout is not None
        self.addCleanup(self.process.stdout.close)
        port = int(self.process.stdout.readline().rpartition(" ")[2])
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.addCleanup(self.channel.close)

    def method(self, kind: str, name: str) -> Any:
        """A callable for one method."""
        return getattr(self.channel, kind)(
            f"/greeter.Greeter/{name}",
            request_serializer=self.text.SerializeToString,
            response_deserializer=self.text.FromString,
        )

    def texts(self, *words: str) -> Any:
        return iter([self.text(text=word) for word in words])

    def test_calls(self) -> None:
        """Unary, both kinds of streams, and both at once."""
        hello = self.method("unary_unary", "SayHello")
        answer, call = hello.with_call(
            self.text(text="Ada"), metadata=[("language", "fr")], timeout=SECONDS_MAX
        )
        self.assertEqual("Salut, Ada!", answer.text)
        metadata = dict(call.initial_metadata())
        self.assertEqual(("fr", b"\0\xff"), (metadata["spoken"], metadata["raw-bin"]))
        spell = self.method("unary_stream", "Spell")
        letters = [answer.text for answer in spell(self.text(text="abc"), timeout=SECONDS_MAX)]
        self.assertEqual(["a", "b", "c"], letters)
        join = self.method("stream_unary", "Join")
        self.assertEqual("a b c", join(self.texts("a", "b", "c"), timeout=SECONDS_MAX).text)
        chat = self.method("stream_stream", "Chat")
        said = [answer.text for answer in chat(self.texts("one", "two", "bye", "lost"), timeout=SECONDS_MAX)]
        self.assertEqual(["ONE", "TWO"], said)

    def test_errors(self) -> None:
        """A status with its trailers; a deadline."""
        with self.assertRaises(grpc.RpcError) as caught:
            self.method("unary_unary", "SayHello")(self.text(), timeout=SECONDS_MAX)
        error: Any = caught.exception
        self.assertEqual(
            (grpc.StatusCode.INVALID_ARGUMENT, "nobody to greet"), (error.code(), error.details())
        )
        self.assertIn(("hint", "give a name"), error.trailing_metadata())
        with self.assertRaises(grpc.RpcError) as caught:
            self.method("unary_unary", "SayHelloLater")(self.text(text="Ada"), timeout=0.2)
        late: Any = caught.exception
        self.assertEqual(grpc.StatusCode.DEADLINE_EXCEEDED, late.code())

    def test_stopped(self) -> None:
        """SIGTERM ends it."""
        self.method("unary_unary", "SayHello")(self.text(text="Ada"), timeout=SECONDS_MAX)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(SECONDS_MAX)
