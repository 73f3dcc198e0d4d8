"""An import in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def prepare(task: dict[str, Any]) -> _Import:
    """The contender for a task of the worker's."""
    return _Import(task["options"]["imports"])


class _Import:
    """Starts Python, imports, ends.

    Attributes:
        works_in_children: Tells the worker whose peak memory is asked for.
    """

    works_in_children = True

    def __init__(self, imports: str) -> None:
        self._command = [sys.executable, "-P", "-c", f"import {imports}"]

    def step(self) -> None:
        subprocess.run(self._command, check=True, capture_output=True)
