"""Errors that more than one room has to know, and TensorFlow's in a few words."""

from __future__ import annotations

import re
from typing import Any

_GRAPH = re.compile(r"\[\[| \[Op:")  # begins what TensorFlow adds of its graph or operation
_WHERE = re.compile(r"^.* with iterator: \S+: |^.*\{\{.*?\}\}\s*|^\(\d+\)\s*\w+:\s*")


class ProcessLostError(RuntimeError):
    """Another process of a run is gone; the same command in each process goes on from the run's last state."""


def reason_of(error: Any) -> str:
    """What happened, by a `tf.errors.OpError`: the last line of its message before TensorFlow speaks of its graph."""
    before = _GRAPH.split(str(error.message), maxsplit=1)[0].strip().splitlines()
    line = next((line.strip() for line in reversed(before) if line.strip()), type(error).__name__)
    return _WHERE.sub("", line).rstrip(". ") or type(error).__name__


def disk_reason_of(error: Any) -> str:
    """What the file system said, by such an error of writing; without the path, which may be an unfinished one."""
    return reason_of(error).rpartition("; ")[2]
