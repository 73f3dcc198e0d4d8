"""Errors for users' mistakes and for what the environment refuses; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from keras_crossvit._internal.user_text import shown_name

LONGEST_MESSAGE = 2000  # characters; a value of a file that is in it may have any length


class CrossViTError(Exception):
    """Base class of the package's own errors: what was given, which rule it breaks and what to do, in one line."""

    def __str__(self) -> str:
        return shown_name(super().__str__(), LONGEST_MESSAGE)  # names in it may have control characters


class InvalidValueError(CrossViTError, ValueError):
    """A value, or the content of a file, that breaks a rule."""


class InvalidTypeError(CrossViTError, TypeError):
    """An object of the wrong type, or a keyword that does not exist."""


class MissingFileError(CrossViTError, FileNotFoundError):
    """A file or folder that does not exist."""


class ExistingFileError(CrossViTError, FileExistsError):
    """A file or folder that would be overwritten."""


class FileError(CrossViTError, OSError):
    """A file or port that the operating system refuses, such as on a full disk."""


class DownloadError(CrossViTError, ConnectionError):
    """A download that failed or was damaged."""


class MissingLibraryError(CrossViTError, ModuleNotFoundError):
    """A library that is not installed; the message has the command that installs it."""


class OperationError(CrossViTError, RuntimeError):
    """A run, conversion or check that failed for a reason that the message explains."""


class ProcessLostError(OperationError):
    """Another process of a distributed run has ended; the same command in every process resumes from the last state."""


_GRAPH = re.compile(r"\[\[| \[Op:")  # starts what TensorFlow adds about its graph or operation
_WHERE = re.compile(r"^.* with iterator: \S+: |^.*\{\{.*?\}\}\s*|^\(\d+\)\s*\w+:\s*")


def tensorflow_reason(error: Any) -> str:
    """Returns the reason that a `tf.errors.OpError` gives: the last line of its message before the graph is named."""
    before = _GRAPH.split(str(error.message), maxsplit=1)[0].strip().splitlines()
    line = next((line.strip() for line in reversed(before) if line.strip()), type(error).__name__)
    return _WHERE.sub("", line).rstrip(". ") or type(error).__name__


def tensorflow_disk_reason(error: Any) -> str:
    """Returns what the file system said in such an error of writing, without the path, which may be temporary."""
    return tensorflow_reason(error).rpartition("; ")[2]


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def listed(names: Sequence[str], limit: int = 8) -> str:
    """Returns the first names and the number of the others, for a message."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit:,} more"


_NO_MEMORY = (
    "There is not enough memory for a training step ({reason}). Free some and run the same command, which resumes from "
    "the last state, or train into another folder with gradient_checkpointing, more gradient_accumulation_steps or a "
    "smaller batch_size."
)
_FAILED = "TensorFlow stopped the run ({reason}). Fix that and run the same command: it resumes from the last state."
_TELLS_OF_MEMORY = re.compile(r"out of memory|\boom\b|allocat", re.IGNORECASE)
_BACKENDS_ERRORS = {"JaxRuntimeError", "XlaRuntimeError", "OutOfMemoryError", "RuntimeError"}  # JAX, PyTorch


@contextlib.contextmanager
def explain_training_errors() -> Iterator[None]:
    """Turns a backend's error, and a lack of memory, during training into an `OperationError` of one line."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        reason = tensorflow_reason(error)
        # A full disk is a ResourceExhaustedError too.
        is_memory = isinstance(error, tf.errors.ResourceExhaustedError) and _TELLS_OF_MEMORY.search(reason)
        raise OperationError((_NO_MEMORY if is_memory else _FAILED).format(reason=reason)) from error
    except (MemoryError, RuntimeError) as error:
        reason = first_line(error)[:200].rstrip(". ")
        is_backends = type(error).__name__ in _BACKENDS_ERRORS and _TELLS_OF_MEMORY.search(reason)
        if not (isinstance(error, MemoryError) or is_backends):
            raise
        raise OperationError(_NO_MEMORY.format(reason=reason)) from error
