"""What docs/clusters.md shows is what happens."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interop.servers import ENVIRONMENT, ID, free_ports, script

DOCS = Path(__file__).parents[2] / "docs"
SECONDS_MAX = 120.0
PORTS = ("12379", "12380", "22379", "22380", "32379", "32380", "42379", "42380")
_END = "--- that was all ---"


def transcript(path: Path) -> list[tuple[str, str]]:
    """The commands of a page in their order, each with what it prints."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE):
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, printed = command.partition("\n")
            found.append((line, printed))
    return found


def general(text: str) -> list[str]:
    """The same for any run, whatever the ids are, and in which order members come."""
    lines = re.sub(rf" *{ID}", " ID", text).splitlines()  # a short one has spaces before it
    return sorted(
        re.sub(r'(?<=CLUSTER=")[^"]*', lambda one: ",".join(sorted(one[0].split(","))), line)
        for line in lines
    )


class ClustersTests(SynchronousTestCase):
    """The page on clusters, command by command, in one shell."""

    def test_transcripts(self) -> None:
        """Each command prints what the page says that it does."""
        for tool in ("etcdctl", "openssl", "curl", "bash"):
            if shutil.which(tool) is None:
                raise SkipTest(f"needs {tool}")
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir(parents=True)
        steps = transcript(DOCS / "clusters.md")
        self.assertGreater(len(steps), 30)
        printed = self.run_all([command for command, _ in steps])
        for (command, expected), actual in zip(steps, printed, strict=False):
            self.assertEqual(general(expected), general(actual), f"{command}\n{''.join(printed)[-3000:]}")
        self.assertEqual(len(steps), len(printed))

    def run_all(self, commands: list[str]) -> list[str]:
        """What each of them prints, with other ports than those of the page, which may be in use."""
        ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        lines = ["trap 'kill $(jobs -p) 2> /dev/null' EXIT"]
        for command in commands:
            lines += [command, f"echo '{_END}'"]
        program = "\n".join(lines)
        program = re.sub(r"\$\{1\}(23(?:79|80))", r"$(port_of ${1}\1)", program)
        table = "".join(f"{page}) echo {port};; " for page, port in ports.items())
        program = f"port_of() {{ case $1 in {table}esac; }}\n" + _replaced(program, ports)
        self.copy_procfile(ports)
        printed = self.home / "printed"
        shell = subprocess.Popen(
            ["bash", "-c", program],
            cwd=self.home,
            stdout=printed.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **ENVIRONMENT,
                "DOCS": str(self.home / "docs"),
                "PATH": f"{Path(script('x')).parent}{os.pathsep}{os.environ['PATH']}",
            },
        )
        try:
            shell.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.fail(f"it does not end: {printed.read_text()}\n{self.logs()}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        back = {port: page for page, port in ports.items()}
        return _replaced(printed.read_text(), back).split(f"{_END}\n")[: len(commands)]

    def copy_procfile(self, ports: dict[str, str]) -> None:
        examples = self.home / "docs" / "examples"
        examples.mkdir(parents=True)
        (examples / "Procfile").write_text(_replaced((DOCS / "examples" / "Procfile").read_text(), ports))

    def logs(self) -> str:
        """The end of each log."""
        return "\n".join(f"{path.name}: {path.read_text()[-600:]}" for path in self.home.glob("*.log"))


def _replaced(text: str, ports: dict[str, str]) -> str:
    return re.sub(r"\b\d{4,5}\b", lambda match: ports.get(match[0], match[0]), text)
