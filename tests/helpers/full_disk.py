"""A full disk, simulated by a limit on the size of files."""

import contextlib
import resource
import signal


@contextlib.contextmanager
def limited_files(limit):
    """Makes writes beyond `limit` bytes fail in this process and its children, instead of ending the process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
