"""Files and folders that are written whole or not at all, and where those lie that may be made again."""

from __future__ import annotations

import contextlib
import csv
import errno
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from keras_crossvit._internal.errors import FileError, InvalidValueError

_JOINERS = "\u200c\u200d"  # without which some scripts and emoji are written wrongly
_UNFINISHED = ".unfinished-"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a quota or the largest file allowed is full


@contextlib.contextmanager
def atomic_write(path: str | PathLike) -> Iterator[Path]:
    """Lends an unfinished path beside `path`, and moves what was written there to `path` when all went well.

    Companions, which were written beside the unfinished path, move along: parts of it before it, and notes about it,
    whose names begin with its own (`model.tflite.report`), after it. Whether an error, an interrupt or a full disk ends
    the writing, `path` keeps what it held, and what is unfinished is removed. If the process is killed between two
    moves, no old file lies beside a new one: a file with parts is then missing, and one without lacks its notes. An
    existing file, or link, is replaced; an existing folder is not.

    Args:
        path: File or folder to write.

    Yields:
        A path that does not exist yet, of the same name, in a temporary folder beside `path`.

    Raises:
        OSError: the place cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    shelter = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=path.parent))
    try:
        unfinished = shelter / path.name
        yield unfinished
        _flush(shelter)
        _put_in_place(unfinished, path)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        reason = os.strerror(error.errno)
        raise FileError(error.errno, f"'{path}' cannot be written ({reason}); make room on the disk.") from error
    finally:
        shutil.rmtree(shelter, ignore_errors=True)


def inside(folder: Path, name: str, source: Path | str) -> Path:
    """Returns the path of what a file names in a folder, if it stays there: such names may come from anyone.

    Args:
        folder: The folder.
        name: A plain name, or a path from there with `/`.
        source: The file that has the name, for the error; or a text that says where it stands.

    Returns:
        `folder / name`.

    Raises:
        ValueError: the name is empty or no text, is an absolute path or has a drive, `..`, a backslash or a zero byte,
            or leaves the folder by a symbolic link.
    """
    if isinstance(name, str) and _stays_below(folder, name):
        return folder / name
    where = source if isinstance(source, str) else f"'{source}'"
    raise InvalidValueError(
        f"{where} names {repr(name)[:200]}, which is not inside '{folder}'; name files in this folder, without '..', "
        "a drive, a backslash or a link that leads out of it."
    )


def _stays_below(folder: Path, name: str) -> bool:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive:
        return False
    try:
        if b"\0" in os.fsencode(name):
            return False
    except UnicodeEncodeError:  # no name of any file
        return False
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(folder / name)).parents


def _put_in_place(unfinished: Path, path: Path) -> None:
    companions = [each for each in sorted(unfinished.parent.iterdir()) if each != unfinished]
    notes = [each for each in companions if each.name.startswith(f"{path.name}.")]
    parts = [each for each in companions if each not in notes]
    aside = Path(tempfile.mkdtemp(dir=unfinished.parent))
    withdrawn = []
    try:
        for each in (*notes, unfinished, *parts) if parts else notes:
            old = path.with_name(each.name)
            if os.path.lexists(old) and (old.is_symlink() or not old.is_dir()):
                withdrawn.append(old)
                old.replace(aside / old.name)
        for each in (*parts, unfinished, *notes):
            each.replace(path.with_name(each.name))
    except BaseException:
        if os.path.lexists(unfinished):  # not in its place, so what was there comes back
            for each in parts:
                if not os.path.lexists(each):
                    path.with_name(each.name).unlink(missing_ok=True)
            for old in reversed(withdrawn):
                if os.path.lexists(aside / old.name):
                    (aside / old.name).replace(old)
        raise


def printable(text: str) -> str:
    """A path, or a text that names one, as it can be printed: bytes that are no UTF-8 are shown by their numbers."""
    return text.encode("utf-8", "backslashreplace").decode()


def shown_name(name: str, length: int = 32) -> str:
    """A name of the user's as it is drawn or printed: one line of at most `length` characters, cut in its middle.

    Control characters, line breaks, marks of direction and bytes that are not UTF-8 are shown as their escapes.
    """
    text = "".join(
        each
        if each.isprintable() or unicodedata.category(each) == "Zs" or each in _JOINERS
        else each.encode("unicode_escape").decode()
        for each in name
    )
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def write_text(path: str | PathLike, text: str) -> None:
    """Writes a text file in UTF-8; whole or not at all."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_table(path: str | PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of equal columns, one at least, as a CSV file with a header; whole or not at all."""
    with atomic_write(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def require_no_links(paths: Iterable[Path]) -> None:
    """Raises OSError where what is to be written would go through a link, to a place that only the link names.

    A folder that someone else has made may hold such links.

    Args:
        paths: Files to write, and folders in which to write anything; the folder that they lie in is not looked at.
    """
    for path in paths:
        for each in (path, *(() if path.is_symlink() else path.rglob("*"))):
            if each.is_symlink() or (each.exists() and not each.is_file() and not each.is_dir()):
                raise FileError(
                    f"'{each}' is {'a link' if each.is_symlink() else 'neither a file nor a folder'}, through which "
                    "nothing is written; remove it"
                )


def remove_unfinished(folder: Path) -> None:
    """Removes what a process that was killed had begun to write into a folder."""
    for leftover in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def cache_folder() -> Path:
    """Folder of what can be made or fetched again: `keras_crossvit` in `XDG_CACHE_HOME`, or else in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras_crossvit"


def _flush(folder: Path) -> None:
    """Asks for the bytes to be on disk before the name is, so that a power cut leaves no empty file of that name."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
