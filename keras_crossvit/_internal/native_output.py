"""What libraries in C++ print without Python's knowledge."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

_TAIL = 4000  # characters that an exception carries
_LOCK = threading.RLock()  # the streams belong to the process: two threads would restore each other's


@contextlib.contextmanager
def suppress_native_output() -> Iterator[None]:
    """Keeps what is written to the process's standard output and error from the terminal, from all threads.

    An exception that leaves the context carries the end of that output as a note, so a converter's own diagnostics are
    in the traceback.
    """
    with _LOCK, tempfile.TemporaryFile() as file:
        _flush()
        originals = [os.dup(number) for number in (1, 2)]
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield
        except Exception as error:
            _flush()
            file.seek(0)
            if text := file.read().decode(errors="replace").strip():
                error.add_note(f"Suppressed output:\n{text[-_TAIL:]}")
            raise
        finally:
            _flush()
            for number, original in zip((1, 2), originals, strict=True):
                os.dup2(original, number)
                os.close(original)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
