"""Checks every image file before training: whether it is readable, its size, and its decoder."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from keras_crossvit._internal.checks import resolve_threads
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.files import cache_folder, write_text
from keras_crossvit._internal.image_files import LEADS_OUT, RefusedFileError, links_out, open_image, read_image_file
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.stored_json import read_json
from keras_crossvit._internal.user_text import one_line
from keras_crossvit.pipeline.decoding import Decoder
from keras_crossvit.preprocessing.images import max_pixels, orientation_of, read_image

_FORMAT = 4  # of the cache; raise it when a file would be judged differently
_CACHED = [int, int, int, int, int, str]  # size and modification time of a file, and the fields of a `FileCheck`
_MAX_CACHE_BYTES = 2**30  # of some ten million files
_FILES_LISTED = 100
_FILES_IN_ERROR = 5
_ALLOW_LINKS = "; allow links that lead out of the folder with follow_links=True (--follow-links)"
_PROGRESS_EVERY = 10_000  # files
_DECODER_NAMES = {Decoder.JPEG: "TensorFlow as JPEG", Decoder.PNG: "TensorFlow as PNG", Decoder.PILLOW: "Pillow"}


@dataclasses.dataclass(frozen=True)
class FileCheck:
    """Size of the upright image in pixels and its `Decoder`, or why the file is unreadable."""

    height: int
    width: int
    decoder: int
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Survey:
    """The result of checking each file of a data set."""

    files: tuple[str, ...]
    checks: tuple[FileCheck, ...]

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """(path, problem) of the unreadable files."""
        return [(path, each.problem) for path, each in zip(self.files, self.checks, strict=True) if each.problem]

    def __str__(self) -> str:
        decoders = Counter(Decoder(each.decoder) for each in self.checks if not each.problem)
        counts = ", ".join(f"{count} by {_DECODER_NAMES[decoder]}" for decoder, count in sorted(decoders.items()))
        lines = [f"{len(self.files)} files, {decoders.total()} readable" + (f" ({counts})" if counts else "")]
        if self.unreadable:
            lines.append(f"unreadable: {self._problems()}")
            lines += [f"  {one_line(path)}: {one_line(problem)}" for path, problem in self.unreadable[:_FILES_LISTED]]
            if len(self.unreadable) > _FILES_LISTED:
                lines.append(f"  and {len(self.unreadable) - _FILES_LISTED} more")
        return "\n".join(lines)

    def require_readable(self, max_unreadable: int) -> None:
        """Raises ValueError if more than `max_unreadable` files are unreadable."""
        if len(self.unreadable) > max_unreadable:
            names = ", ".join(f"'{one_line(path)}'" for path, _ in self.unreadable[:_FILES_IN_ERROR])
            more = " ..." if len(self.unreadable) > _FILES_IN_ERROR else ""
            raise InvalidValueError(
                f"{len(self.unreadable)} of {len(self.files)} files are unreadable ({self._problems()}), more than "
                f"max_unreadable {max_unreadable}: {names}{more}. Remove or repair them, or raise max_unreadable"
                f"{_ALLOW_LINKS if LEADS_OUT in {problem for _, problem in self.unreadable} else ''}."
            )

    def _problems(self) -> str:
        counts = Counter(problem for _, problem in self.unreadable)
        return ", ".join(f"{count} {problem}" for problem, count in sorted(counts.items()))


def survey_files(root: Path, paths: Sequence[str], within: Path | None) -> Survey:
    """Checks files in parallel.

    The cache of the data set in `root` has the results of files whose size and modification time have not changed.
    Links that lead out of the folder `within` are not read; with None, all links are.
    """
    outside = set() if within is None else links_out(paths, within)
    found = _check_files(root, [path for path in paths if path not in outside])
    found |= dict.fromkeys(outside, _unreadable(LEADS_OUT))
    return Survey(tuple(paths), tuple(found[path] for path in paths))


def _check_files(root: Path, paths: Sequence[str]) -> dict[str, FileCheck]:
    cache = _cache_of(root)
    cached = _read_cache(cache)
    stamps = [_stamp(path) for path in paths]
    checks: list[FileCheck | None] = [
        FileCheck(*known[2:]) if (known := _cached_entry(cached, path)) and known[:2] == stamp else None
        for path, stamp in zip(paths, stamps, strict=True)
    ]
    unknown = [i for i, each in enumerate(checks) if each is None]
    pool = ThreadPoolExecutor(resolve_threads(None))
    try:
        results = pool.map(check_file, [paths[i] for i in unknown])
        for done, (i, result) in enumerate(zip(unknown, results, strict=True), start=1):
            checks[i] = result
            if done % _PROGRESS_EVERY == 0:
                logger.info("Checked %d of %d files", done, len(unknown))
    finally:  # an interrupted survey resumes from its cache
        pool.shutdown(cancel_futures=True)
        if unknown:
            _write_cache(cache, paths, stamps, checks)
    return {path: each for path, each in zip(paths, checks, strict=True) if each is not None}


def check_file(path: str) -> FileCheck:
    """Reads a file to its end, since a header says nothing of missing pixels, and chooses its decoder."""
    try:
        contents = read_image_file(path)
    except RefusedFileError as error:
        return _unreadable(error.problem)
    except FileNotFoundError:
        return _unreadable("broken link" if Path(path).is_symlink() else "missing")
    except OSError as error:
        return _unreadable(error.strerror or "unreadable")
    if not contents:
        return _unreadable("empty")
    try:
        with open_image(contents) as image:
            if image.width * image.height > max_pixels():
                return _unreadable("too many pixels")
            height, width = image.height, image.width
            decoder = _choose_decoder(image)
        if _is_decoded_by_tensorflow(contents, decoder, (height, width)):
            return FileCheck(height, width, decoder)
        height, width, _ = read_image(io.BytesIO(contents)).shape
    except Exception as error:  # Pillow's readers raise anything on damaged files
        return _unreadable(_problem(error.__cause__ or error))
    return FileCheck(height, width, Decoder.PILLOW)


def _unreadable(problem: str) -> FileCheck:
    return FileCheck(0, 0, Decoder.PILLOW, problem)


def _problem(error: BaseException) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    is_truncated = isinstance(error, (OSError, EOFError, IndexError)) or "truncated" in str(error)
    return "truncated" if is_truncated else "not an image"


def _choose_decoder(image: Image.Image) -> Decoder:
    is_plain = image.mode in ("L", "RGB") and orientation_of(image) == 1 and "transparency" not in image.info
    by_format = {"JPEG": Decoder.JPEG, "MPO": Decoder.JPEG, "PNG": Decoder.PNG}
    return by_format.get(image.format or "", Decoder.PILLOW) if is_plain else Decoder.PILLOW


def _is_decoded_by_tensorflow(contents: bytes, decoder: Decoder, size: tuple[int, int]) -> bool:
    """Returns whether TensorFlow decodes the whole image to the size that Pillow read from its header."""
    try:
        if decoder is Decoder.JPEG:
            # At an eighth of the size the whole file is still read, in two thirds of the time.
            shape = tf.io.decode_jpeg(contents, channels=3, ratio=8).shape
            return tuple(shape[:2]) == tuple(-(-side // 8) for side in size)
        return decoder is Decoder.PNG and tuple(tf.io.decode_png(contents, channels=3).shape[:2]) == size
    except tf.errors.InvalidArgumentError:
        return False


def _stamp(path: str) -> list[int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _cache_of(root: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return cache_folder() / f"survey-{digest}.json"


def _read_cache(cache: Path) -> dict[str, list]:
    try:  # a cache that cannot be used is written anew
        stored = read_json(cache, {"format": int, "files": {str: Any}}, "remove it", max_bytes=_MAX_CACHE_BYTES)
        return stored["files"] if stored["format"] == _FORMAT else {}
    except (OSError, InvalidValueError):
        return {}


def _cached_entry(cached: dict[str, Any], path: str) -> list | None:
    """Returns what the cache has about a file, if it has the form of an entry."""
    entry = cached.get(path)
    is_valid = isinstance(entry, list) and list(map(type, entry)) == _CACHED and entry[4] in _DECODER_NAMES
    return entry if is_valid else None


def _write_cache(
    cache: Path, paths: Sequence[str], stamps: Sequence[list[int] | None], checks: Sequence[FileCheck | None]
) -> None:
    entries = {
        path: [*stamp, *dataclasses.astuple(each)]
        for path, stamp, each in zip(paths, stamps, checks, strict=True)
        if stamp is not None and each is not None
    }
    try:
        write_text(cache, json.dumps({"format": _FORMAT, "files": entries}))
    except OSError:
        return  # the next survey only takes longer
