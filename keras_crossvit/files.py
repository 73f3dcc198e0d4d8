"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from os import PathLike
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: str | PathLike) -> Iterator[Path]:
    """Lends an unfinished path beside `path`, and moves what was written there to `path` when all went well.

    Whether an error, an interrupt or a full disk ends the writing, `path` keeps what it held, and the unfinished file
    or folder is removed. An existing file is replaced; an existing folder is not.

    Args:
        path: File or folder to write.

    Yields:
        A path that does not exist yet, of the same suffix, in a temporary folder beside `path`.

    Raises:
        OSError: the place cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    shelter = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=path.parent))
    try:
        unfinished = shelter / path.name
        yield unfinished
        _flush(unfinished)
        unfinished.replace(path)
    finally:
        shutil.rmtree(shelter, ignore_errors=True)


def _flush(path: Path) -> None:
    """Asks for the bytes to be on disk before the name is, so that a power cut leaves no empty file of that name."""
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
