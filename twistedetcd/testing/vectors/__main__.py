"""``python -m twistedetcd.testing.vectors DIR...``: replay every ``*.txt`` below the directories."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from twistedetcd.testing.vectors.replay import replay, rewritten
from twistedetcd.testing.vectors.syntax import VectorError

_USAGE_ERROR = 2


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="python -m twistedetcd.testing.vectors",
        description="Replay raft conversations, and compare what raft says letter for letter.  The exit "
        "status is 0 if all files pass, 1 if one failed, 2 if there is nothing to replay.",
    )
    options.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="where *.txt files are")
    options.add_argument(
        "--rewrite", action="store_true", help="write what raft says into the files; review the difference"
    )
    return options


def find(directories: Iterable[Path]) -> list[Path]:
    """
    The files below the directories, those of each in the order of their names.

    Raises:
        VectorError: A directory is missing or holds no file.
    """
    files = []
    for directory in directories:
        if not directory.is_dir():
            raise VectorError(f"{directory} is not a directory")
        found = sorted(path for path in directory.rglob("*.txt") if path.is_file())
        if not found:
            raise VectorError(f"there is no *.txt file in {directory}")
        files += found
    return files


def check(path: Path) -> str | None:
    """Why a file fails; ``None`` if it passes."""
    try:
        failure = replay(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, VectorError) as error:
        return f"{path}: {error}"
    return None if failure is None else f"{path}:{failure.line}\n{failure}"


def _rewrite(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8")
        path.write_text(rewritten(text), encoding="utf-8")
    except (OSError, UnicodeDecodeError, VectorError) as error:
        return f"{path}: {error}"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        files = find(options.directories)
    except VectorError as error:
        print(error, file=sys.stderr)
        return _USAGE_ERROR
    failed = 0
    for path in files:
        problem = _rewrite(path) if options.rewrite else check(path)
        failed += problem is not None
        print(f"ok      {path}" if problem is None else f"FAILED  {problem}")
    print(f"{len(files) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
