"""Finds and opens image files that may come from strangers: regular files of limited size, in formats of images."""

from __future__ import annotations

import functools
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from keras_crossvit._internal.errors import InvalidValueError

MAX_BYTES = 256 * 2**20  # of a file; the pixels of 8-bit RGB images of Pillow's largest size
# Pillow has readers of more formats. Some start other programs (EPS starts Ghostscript), and few are tested as well.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Left behind by file managers, archives and network drives; ignored, as hidden files and folders are.
_SYSTEM_NAMES = {
    *("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"),
}
LEADS_OUT = "link out of the folder"


class RefusedFileError(InvalidValueError):
    """A file that is not opened; `problem` is the reason in a few words."""

    def __init__(self, path: str | PathLike, problem: str, reason: str) -> None:
        super().__init__(f"'{path}' {reason}")
        self.problem = problem


def read_image_file(path: str | PathLike) -> bytes:
    """Returns the contents of an image file.

    Raises:
        OSError: the file does not exist or cannot be read.
        RefusedFileError: it is a pipe, device or folder, or has more than `MAX_BYTES`.
    """
    _require_regular(path, Path(path).stat())  # before it is opened, which may wait for a pipe or start a device
    with open(path, "rb", opener=_open_without_waiting) as file:
        _require_regular(path, os.fstat(file.fileno()))  # it may have been replaced
        contents = file.read(MAX_BYTES + 1)
    _require_size(path, len(contents))  # it may grow
    return contents


def open_image(file: BinaryIO | bytes, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Returns the Pillow image of a stream or of a file's contents, of one of `FORMATS`, before pixels are decoded."""
    return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=formats or _installed_formats())


def files_below(folder: str | PathLike, within: str | PathLike | None) -> Iterator[str]:
    """Yields the files below a folder, except hidden files and those of the system.

    Links to folders are followed, except back to a folder that they are in. A link that leads out of the folder
    `within` is yielded as if it were a file; with None, all links are followed.
    """
    if within is not None and leads_out(folder, within):
        yield str(folder)
        return
    seen = set()
    for parent, folders, files in os.walk(os.fspath(folder), followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        inside = []
        for name in sorted(filter(is_of_the_user, folders)):
            path = os.path.join(parent, name)  # noqa: PTH118 faster
            if within is not None and leads_out(path, within):
                yield path
            elif not _is_below(real, os.path.realpath(path)):
                inside.append(name)
        folders[:] = inside
        yield from (os.path.join(parent, name) for name in files if is_of_the_user(name))  # noqa: PTH118


def files_of(paths: Sequence[str | PathLike], *, follow_links: bool) -> Iterator[tuple[str, str | None]]:
    """Yields each file, and those below each folder in alphabetical order, with the folder that it must be in."""
    for path in map(str, paths):
        if Path(path).is_dir():
            within = None if follow_links else path
            yield from ((file, within) for file in sorted(files_below(path, within)))
        else:
            yield path, None


def files_inside(
    found: Iterable[tuple[str, str | None]], *, on_error: Callable[[str, RefusedFileError], None]
) -> list[str]:
    """Returns which of the files that `files_of` yields are in their folder; `on_error` gets each of the others."""
    files = []
    for path, within in found:
        try:
            require_inside(path, within)
            files.append(path)
        except RefusedFileError as error:
            on_error(path, error)
    return files


def is_of_the_user(name: str) -> bool:
    """Returns whether a file or folder is not hidden, and not of a file manager, archive or network drive."""
    return not name.startswith(".") and name.lower() not in _SYSTEM_NAMES


def links_out(paths: Iterable[str], within: str | PathLike) -> set[str]:
    """Returns which files below a folder lead out of it through a link, of the file or of a folder on its path."""
    folders_out = functools.cache(functools.partial(leads_out, folder=within))
    is_link = os.path.islink  # Path.is_symlink raises on names that are too long for any file
    return {
        path for path in paths if folders_out(path.rpartition(os.sep)[0]) or (is_link(path) and leads_out(path, within))
    }


def leads_out(path: str | PathLike, folder: str | PathLike) -> bool:
    """Returns whether a path below a folder leads out of it through a link."""
    return not _is_below(os.path.realpath(path), os.path.realpath(folder))


def require_inside(path: str | PathLike, folder: str | PathLike | None) -> None:
    """Raises RefusedFileError if a path leads out of a folder through a link; None allows all."""
    if folder is not None and leads_out(path, folder):
        raise RefusedFileError(
            path,
            LEADS_OUT,
            f"is or contains a link that leads out of '{folder}'; replace it by a copy, or allow such links with "
            "follow_links=True (--follow-links).",
        )


def _is_below(path: str, folder: str) -> bool:
    """Returns whether a real path is that of a folder, or below it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(path: str | PathLike, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RefusedFileError(path, "not a regular file", "is not a regular file; pass the file of an image.")
    _require_size(path, status.st_size)


def _require_size(path: str | PathLike, size: int) -> None:
    if size > MAX_BYTES:
        raise RefusedFileError(
            path,
            "too large",
            f"has {size:,} bytes, more than the {MAX_BYTES:,} of an image file; save it as a smaller JPEG or PNG.",
        )


@functools.cache
def _installed_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
