"""What is to be said should this process be ended from without, where Python no longer gets to say anything."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator

_LISTENER = """
import sys
line = ""
for line in sys.stdin:
    continue
if line.strip():
    print(line.strip(), file=sys.stderr, flush=True)
"""


@contextlib.contextmanager
def last_words() -> Iterator[Callable[[str], None]]:
    """Lends a function that settles what is printed on standard error if this process ends within the context.

    JAX ends a process from its own threads, without an exception, when it can no longer reach the process that
    coordinates the others. A small process listens at a pipe from here: when the pipe closes before the context does,
    it prints the last line that it was given.

    Yields:
        Function of a line.
    """
    listener = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _LISTENER],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for this process alone
    )

    def settle(line: str) -> None:
        listener.stdin.write(f"{line}\n")
        listener.stdin.flush()

    try:
        yield settle
    finally:
        with contextlib.suppress(BrokenPipeError):  # the listener itself may have been ended
            settle("")
            listener.stdin.close()
        listener.wait()
