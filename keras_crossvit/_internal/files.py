"""Atomic writing of files and folders, paths from names in files, and the cache folder."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from keras_crossvit._internal.errors import FileError, InvalidValueError, OperationError
from keras_crossvit._internal.locks import locked
from keras_crossvit._internal.user_text import csv_cell

UNFINISHED = ".unfinished-"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # full disk, quota or file size limit


@contextlib.contextmanager
def atomic_write(path: str | PathLike, *, exclusive: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which is moved to `path` once the context ends without an error.

    On an error, an interrupt or a full disk `path` keeps its old content and the temporary files are removed. An
    existing file or link is replaced; an existing folder is not.

    Other files that are written beside the temporary path move along: parts of the file (`model.bin` of `model.xml`)
    before it, notes about it, whose names start with its name (`model.tflite.export_report.json`), after it. If the
    process is killed between two moves, an old file never stands beside a new one: a file with parts is then missing,
    a file without parts lacks its notes.

    Args:
        path: File or folder to write.
        exclusive: Whether another process that writes to `path` is an error. Defaults to False: the last one wins.

    Raises:
        OSError: `path` cannot be written.
        OperationError: `exclusive`, and another process is writing to `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
    try:
        with locked(staging):  # `remove_unfinished` of another process does not touch it
            if exclusive:
                _require_no_other(path, staging)
            unfinished = staging / path.name
            yield unfinished
            _flush(staging)
            _put_in_place(unfinished, path)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        reason = os.strerror(error.errno)
        raise FileError(error.errno, f"'{path}' cannot be written ({reason}); make room on the disk.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _prefix(path: Path) -> str:
    return f"{UNFINISHED}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}-"


def _require_no_other(path: Path, staging: Path) -> None:
    for other in path.parent.glob(f"{_prefix(path)}*"):
        if other.name != staging.name:  # since Python 3.12 `mkdtemp` returns absolute paths
            with contextlib.suppress(OSError), locked(other) as is_free:
                if not is_free:
                    raise OperationError(f"Another process is writing '{path}'; wait for it, or choose another path.")


def inside(folder: Path, name: str, source: Path | str, *, follow_links: bool = False) -> Path:
    """Returns `folder / name` for a name that was read from a file, and refuses names that leave the folder.

    Args:
        folder: The folder.
        name: A file name, or a relative path with `/`.
        source: The file that has the name, or a text that says where, for the error message.
        follow_links: Whether the path may leave the folder through a symbolic link. Defaults to False.

    Raises:
        InvalidValueError: the name is empty or not a string; it is an absolute path or has a drive, `..`, a backslash
            or a zero byte; or it leaves the folder through a symbolic link.
    """
    if isinstance(name, str) and _stays_below(folder, name, follow_links):
        return folder / name
    where = source if isinstance(source, str) else f"'{source}'"
    raise InvalidValueError(
        f"{where} names {repr(name)[:200]}, which is not inside '{folder}'; use names of files in this folder, without "
        "'..', a drive, a backslash or a link to elsewhere."
    )


def _stays_below(folder: Path, name: str, follow_links: bool) -> bool:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive:
        return False
    try:
        if b"\0" in os.fsencode(name):
            return False
    except UnicodeEncodeError:  # not a name that any file can have
        return False
    return follow_links or Path(os.path.realpath(folder)) in Path(os.path.realpath(folder / name)).parents


def _put_in_place(unfinished: Path, path: Path) -> None:
    companions = [each for each in sorted(unfinished.parent.iterdir()) if each != unfinished]
    notes = [each for each in companions if each.name.startswith(f"{path.name}.")]
    parts = [each for each in companions if each not in notes]
    aside = Path(tempfile.mkdtemp(dir=unfinished.parent))
    replaced = []
    try:
        for each in (*notes, unfinished, *parts) if parts else notes:
            old = path.with_name(each.name)
            if os.path.lexists(old) and (old.is_symlink() or not old.is_dir()):
                replaced.append(old)
                old.replace(aside / old.name)
        for each in (*parts, unfinished, *notes):
            each.replace(path.with_name(each.name))
    except BaseException:
        if os.path.lexists(unfinished):  # not moved yet: restore the old files
            for each in parts:
                if not os.path.lexists(each):
                    path.with_name(each.name).unlink(missing_ok=True)
            for old in reversed(replaced):
                if os.path.lexists(aside / old.name):
                    (aside / old.name).replace(old)
        raise


def write_text(path: str | PathLike, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_table(path: str | PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes at least one row as a CSV file with a header, atomically; all rows have the same columns."""
    columns = list(rows[0])
    with atomic_write(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerows(map(csv_cell, cells) for cells in (columns, *([row[name] for name in columns] for row in rows)))


def require_no_links(paths: Iterable[Path]) -> None:
    """Raises `FileError` if a path, or anything below it, is a link, pipe or device that writing would go through.

    A run folder that someone else made may hold such links.

    Args:
        paths: Files and folders to write; the folder that contains them is not checked.
    """
    for path in paths:
        for each in (path, *(() if path.is_symlink() else path.rglob("*"))):
            if each.is_symlink() or (each.exists() and not each.is_file() and not each.is_dir()):
                kind = "a link" if each.is_symlink() else "neither a file nor a folder"
                raise FileError(f"'{each}' is {kind} and will not be written to; remove it")


def remove_unfinished(folder: Path) -> None:
    """Removes temporary files that a killed process left in or below a folder, but not those of one that still runs."""
    for leftover in list(folder.rglob(f"{UNFINISHED}*")):
        with contextlib.suppress(OSError), locked(leftover) as is_free:
            if is_free:
                shutil.rmtree(leftover, ignore_errors=True)


def cache_folder() -> Path:
    """Returns the cache folder: `keras_crossvit` in `XDG_CACHE_HOME`, by default in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras_crossvit"


def _flush(folder: Path) -> None:
    """Flushes files to disk before they get their names, so that a power cut leaves no empty file."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
