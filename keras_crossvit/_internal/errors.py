"""Errors that more than one room has to know, and TensorFlow's in a few words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

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


_MOST_NAMES_SHOWN = 8


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:_MOST_NAMES_SHOWN])
    return shown if len(names) <= _MOST_NAMES_SHOWN else f"{shown} and {len(names) - _MOST_NAMES_SHOWN} more"


_NO_MEMORY = (
    "there is no memory left for a step ({reason}); end what else needs some and run the same command, or train "
    "into another folder with gradient_checkpointing, more accumulation_steps or a smaller batch_size."
)
_ELSE = "TensorFlow cannot go on ({reason}); put that right, and the same command goes on from the last state."


@contextlib.contextmanager
def explain_failures() -> Iterator[None]:
    """Context in which an error of TensorFlow's, of many lines, becomes a RuntimeError of one with a remedy."""
    try:
        yield
    except tf.errors.OpError as error:
        text = _NO_MEMORY if isinstance(error, tf.errors.ResourceExhaustedError) else _ELSE
        raise RuntimeError(text.format(reason=reason_of(error))) from error
