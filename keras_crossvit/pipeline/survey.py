"""A look at every file before training: can it be read, how large is it, on which road is it decoded."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf
from PIL import Image

from keras_crossvit._internal.checks import resolve_threads
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.files import cache_folder, printable, write_text
from keras_crossvit.pipeline.decoding import Decoder
from keras_crossvit.preprocessing.images import max_pixels, orientation_of, read_image

_FORMAT = 2  # of the remembered results; raise it when a file would be judged otherwise
_LINES = 100
_NAMED = 5  # in an error
_REPORTED = 10_000  # files between two lines of progress


@dataclasses.dataclass(frozen=True)
class FileCheck:
    """What a file was found to be.

    Args:
        height: Of the upright picture in pixels; 0 where it cannot be read.
        width: The same.
        decoder: Value of `Decoder`.
        problem: Why it cannot be read, or "".
    """

    height: int
    width: int
    decoder: int
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the files of a collection were found to be.

    Args:
        paths: The files.
        examined: What each is, in the same order.
    """

    paths: tuple[str, ...]
    examined: tuple[FileCheck, ...]

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """(path, problem) of the files that cannot be read."""
        return [(path, each.problem) for path, each in zip(self.paths, self.examined, strict=True) if each.problem]

    def __str__(self) -> str:
        """Counts, and the first of the files that cannot be read."""
        decoders = Counter(Decoder(each.decoder).name for each in self.examined if not each.problem)
        counted = ", ".join(f"{count} by {_DECODER_NAMES[Decoder[name]]}" for name, count in sorted(decoders.items()))
        lines = [f"{len(self.paths)} files, {sum(decoders.values())} readable" + (f" ({counted})" if counted else "")]
        if self.unreadable:
            lines.append(f"cannot be read: {self._problems()}")
            lines += [f"  {printable(path)}: {problem}" for path, problem in self.unreadable[:_LINES]]
            if len(self.unreadable) > _LINES:
                lines.append(f"  and {len(self.unreadable) - _LINES} more")
        return "\n".join(lines)

    def require_readable(self, limit: int) -> None:
        """Raises ValueError, naming some of them, where more than `limit` files cannot be read."""
        if len(self.unreadable) > limit:
            named = ", ".join(f"'{printable(path)}'" for path, _ in self.unreadable[:_NAMED])
            named += " ..." if len(self.unreadable) > _NAMED else ""
            raise InvalidValueError(
                f"{len(self.unreadable)} of {len(self.paths)} files cannot be read ({self._problems()}), more than "
                f"max_unreadable {limit}: {named}; remove or repair them, or raise the limit to go on without them."
            )

    def _problems(self) -> str:
        counts = Counter(problem for _, problem in self.unreadable)
        return ", ".join(f"{count} {problem}" for problem, count in sorted(counts.items()))


_DECODER_NAMES = {Decoder.JPEG: "TensorFlow as JPEG", Decoder.PNG: "TensorFlow as PNG", Decoder.PILLOW: "Pillow"}


def survey_files(root: Path, paths: Sequence[str], *, report: Callable[[str], None] | None = None) -> Survey:
    """Examines files in parallel; those that have kept size and time of change since the last survey are remembered.

    Args:
        root: Folder of the collection, which what is remembered belongs to.
        paths: The files.
        report: Takes a line now and then while this goes on. Defaults to None: silence.

    Returns:
        What the files are, in the order of `paths`.
    """
    memory = _memory_of(root)
    remembered = _recall(memory)
    stamps = [_stamp(path) for path in paths]
    examined: list[FileCheck | None] = [
        FileCheck(*known[2:]) if (known := remembered.get(path)) and known[:2] == stamp else None
        for path, stamp in zip(paths, stamps, strict=True)
    ]
    fresh = [i for i, each in enumerate(examined) if each is None]
    pool = ThreadPoolExecutor(resolve_threads(None))
    try:
        results = pool.map(check_file, [paths[i] for i in fresh])
        for done, (i, result) in enumerate(zip(fresh, results, strict=True), start=1):
            examined[i] = result
            if report and done % _REPORTED == 0:
                report(f"examined {done} of {len(fresh)} files")
    finally:  # an interrupted survey goes on where it ended
        pool.shutdown(cancel_futures=True)
        if fresh:
            known = zip(paths, stamps, examined, strict=True)
            _remember(memory, {path: (stamp, each) for path, stamp, each in known if each is not None})
    return Survey(tuple(paths), tuple(examined))


def check_file(path: str) -> FileCheck:
    """Looks into one file; it is read to its end, for a header says nothing of what is missing behind it."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return FileCheck(0, 0, Decoder.PILLOW, "no regular file")  # reading a pipe would never end
        contents = Path(path).read_bytes()
    except FileNotFoundError:
        return FileCheck(0, 0, Decoder.PILLOW, "broken link" if Path(path).is_symlink() else "missing")
    except OSError as error:
        return FileCheck(0, 0, Decoder.PILLOW, error.strerror or "unreadable")
    if not contents:
        return FileCheck(0, 0, Decoder.PILLOW, "empty")
    try:
        with Image.open(io.BytesIO(contents)) as image:
            if image.width * image.height > max_pixels():
                return FileCheck(0, 0, Decoder.PILLOW, "too many pixels")
            height, width = image.height, image.width
            decoder = _choose_decoder(image)
        if _is_decoded_by_tensorflow(contents, decoder, (height, width)):
            return FileCheck(height, width, decoder)
        height, width, _ = read_image(io.BytesIO(contents)).shape
    except Exception as error:  # a damaged file makes a format's reader fail in any way
        return FileCheck(0, 0, Decoder.PILLOW, _problem(error))
    return FileCheck(height, width, Decoder.PILLOW)


def _choose_decoder(image: Image.Image) -> Decoder:
    is_plain = image.mode in ("L", "RGB") and orientation_of(image) == 1 and "transparency" not in image.info
    by_format = {"JPEG": Decoder.JPEG, "MPO": Decoder.JPEG, "PNG": Decoder.PNG}
    return by_format.get(image.format, Decoder.PILLOW) if is_plain else Decoder.PILLOW


def _is_decoded_by_tensorflow(contents: bytes, decoder: Decoder, size: tuple[int, int]) -> bool:
    """Whether TensorFlow decodes all of it to the size that Pillow read from its header."""
    try:
        if decoder is Decoder.JPEG:
            # An eighth of the size: all that the file holds is read, at two thirds of the time.
            shape = tf.io.decode_jpeg(contents, channels=3, ratio=8).shape
            return tuple(shape[:2]) == tuple(-(-side // 8) for side in size)
        return decoder is Decoder.PNG and tuple(tf.io.decode_png(contents, channels=3).shape[:2]) == size
    except tf.errors.InvalidArgumentError:
        return False


def _problem(error: Exception) -> str:
    text = str(error)
    if isinstance(error, Image.DecompressionBombError) or "pixels, more than" in text:
        return "too many pixels"
    if "truncated" in text or "no whole picture" in text or isinstance(error, (EOFError, IndexError)):
        return "truncated"
    return "no picture"


def _stamp(path: str) -> list[int]:
    try:
        status = Path(path).stat()
    except OSError:
        return [-1, -1]
    return [status.st_size, status.st_mtime_ns]


def _memory_of(root: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return cache_folder() / f"survey-{digest}.json"


def _recall(memory: Path) -> dict[str, list]:
    try:
        stored = json.loads(memory.read_text())
        return stored["files"] if stored["format"] == _FORMAT else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _remember(memory: Path, files: dict) -> None:
    entries = {
        path: [*stamp, each.height, each.width, int(each.decoder), each.problem]
        for path, (stamp, each) in files.items()
        if stamp != [-1, -1]
    }
    try:
        write_text(memory, json.dumps({"format": _FORMAT, "files": entries}))
    except OSError:
        return  # the next survey takes as long as this one
