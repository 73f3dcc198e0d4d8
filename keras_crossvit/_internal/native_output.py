"""Notes that libraries written in C++ print past Python."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

_ONE_AT_A_TIME = threading.RLock()  # the two streams are the process's; threads would give back each other's


@contextlib.contextmanager
def suppress_native_output() -> Iterator[None]:
    """Keeps what is written to the process's standard output and error from the terminal; exceptions pass."""
    streams = (sys.stdout, sys.stderr)
    with _ONE_AT_A_TIME:
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
