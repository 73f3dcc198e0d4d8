"""Memory that the next step needs again."""

from __future__ import annotations

import ctypes
import sys

# Of malloc.h. A training step frees hundreds of megabytes at its end; by default glibc hands them back to the system,
# which has to clear every page again for the next step.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_LARGEST = 2**31 - 1
_HEAP_STEP = 256 * 2**20


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that it frees, for the rest of its life.

    Saved 18 % of a training step of crossvit_9_dagger on a CPU; docs/performance.md has the figures. It is for
    processes that do the same step again and again. Memory that a process frees for good stays with it too.

    Returns:
        Whether the C library could be told; only glibc, on Linux, can.

    Source: the manual page mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    options = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _LARGEST, _M_TOP_PAD: _HEAP_STEP}
    return all(library.mallopt(option, value) == 1 for option, value in options.items())
