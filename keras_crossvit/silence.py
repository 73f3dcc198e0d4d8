"""Notes that libraries written in C++ print past Python."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_COMMAND = "keras-crossvit"


@contextlib.contextmanager
def native_notes_silenced() -> Iterator[None]:
    """Keeps what is written to the process's standard output and error from the terminal; exceptions pass."""
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    try:
        with tempfile.TemporaryFile() as nowhere:
            for number in (1, 2):
                os.dup2(nowhere.fileno(), number)
            yield
    finally:
        for stream in streams:
            stream.flush()
        for number, original in zip((1, 2), kept, strict=True):
            os.dup2(original, number)
            os.close(original)


def command_start_silenced() -> contextlib.AbstractContextManager[None]:
    """Where this process is the command: silence, and TensorFlow that will not speak of every picture it decodes.

    TensorFlow takes its level of notes when it is loaded, which is when this package is imported and before the command
    begins; and some of its notes at that time know no level. A process that imports the package is left as it is.
    """
    is_module = sys.argv[:1] == ["-m"] and "keras_crossvit" in sys.orig_argv  # while Python looks for it
    if not is_module and Path(*sys.argv[:1]).stem != _COMMAND:
        return contextlib.nullcontext()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return native_notes_silenced()
