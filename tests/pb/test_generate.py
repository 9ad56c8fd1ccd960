"""What is committed is what ``make proto`` makes."""

from __future__ import annotations

from importlib.util import find_spec

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.pb import generate


class CommittedFilesTests(SynchronousTestCase):
    """Nobody edits a generated file, and nobody forgets to generate it."""

    def setUp(self) -> None:
        if find_spec("grpc_tools") is None:
            self.skipTest("grpcio-tools is not installed")
        self.version = generate.protoc("--version").strip()
        self.texts = generate.generate(self.version)

    def test_modules(self) -> None:
        """Generating again gives exactly the modules that are here, and no more of them."""
        made = {name: text for name, text in self.texts.items() if name.endswith(".py")}
        committed = {path.name: path.read_text() for path in generate.HERE.glob("*_pb2.py")}
        self.assertEqual(made, committed)

    def test_stubs(self) -> None:
        """Generating again with the protoc that they name gives exactly the stubs that are here."""
        made = {name: text for name, text in self.texts.items() if name.endswith(".pyi")}
        committed = {path.name: path.read_text() for path in generate.HERE.glob("*_pb2.pyi")}
        self.assertEqual(set(made), set(committed))
        if not all(f"# {self.version}\n" in text for text in committed.values()):
            self.skipTest(f"the stubs were made by another protoc than this {self.version}")
        self.assertEqual(made, committed)
