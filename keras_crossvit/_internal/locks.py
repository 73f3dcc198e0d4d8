"""Locks of folders: one process at a time writes to a run, or to shards."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path

from keras_crossvit._internal.errors import FileError, OperationError

LOCK_FILE = ".lock"


class FolderLock:
    """A lock on a folder, held as a context by one process at a time; it ends with the process.

    Windows and some network file systems have no such locks; there, every process gets one.

    Args:
        folder: An existing folder, which gets a file `.lock`. A link of that name is not followed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor: int | None = None

    def __enter__(self) -> FolderLock:
        try:
            # Keeps the content of an existing file.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            self._descriptor = os.open(self.folder / LOCK_FILE, flags, 0o666)
        except OSError as error:
            reason = error.strerror or str(error)
            raise FileError(f"'{self.folder}' cannot be written ({reason}); choose another output folder.") from error
        if not _try_lock(self._descriptor):
            self.__exit__()
            raise OperationError(
                f"Another process is writing to '{self.folder}'; wait for it, or choose another output folder."
            )
        return self

    def __exit__(self, *error: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def require_held(self) -> None:
        """Raises `OperationError` if the folder was removed or replaced since this process has locked it."""
        if self._descriptor is None:
            return
        try:
            status = (self.folder / LOCK_FILE).lstat()
            if os.path.samestat(os.fstat(self._descriptor), status):
                return
        except FileNotFoundError:
            pass
        raise OperationError(
            f"'{self.folder}' was removed or replaced while this process was writing to it, and another process may "
            "use it now; start again with another output folder."
        )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Locks a folder itself; yields False if another process has locked it, and on Windows always True."""
    if os.name != "posix":
        yield True
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        yield _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Locks an open file or folder until it is closed; returns False if another process has locked it."""
    try:
        fcntl = importlib.import_module("fcntl")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ModuleNotFoundError, OSError):  # no locks here
        return True
    return True
