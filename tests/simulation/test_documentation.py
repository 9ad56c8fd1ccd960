"""What docs/testing.md shows works as it stands there."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


class DocumentationTests(SynchronousTestCase):
    """The example."""

    def test_example(self) -> None:
        """It finds the key, after the leader crashed and the network broke."""
        [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(example, str(PAGE), "exec"), {})
        self.assertIn('value: "1"', out.getvalue())
        self.assertIn("Put", out.getvalue())
