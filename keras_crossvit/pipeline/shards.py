"""Reads and verifies shards: TFRecord files of encoded images, with a manifest."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_crossvit._internal.errors import InvalidValueError, MissingFileError, first_line, tensorflow_reason
from keras_crossvit._internal.files import inside
from keras_crossvit._internal.stored_json import read_json, require_form
from keras_crossvit.pipeline.splits import ShardSplit

MANIFEST = "manifest.json"
FORMAT = 2
_FORM = {
    "class_names": [str],
    "splits": {str: [{"file": str, "images": int, "bytes": int, "sha256": str}]},
    "labels": {str: str},
    "images_per_class": {str: {str: int}},
    "unreadable": [{"file": str, "problem": str}],
}
_REMEDY = "run the same 'keras-crossvit prepare' again, which rewrites what is missing or of another size."


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The contents of a folder of shards; the fields are the keys of `manifest.json`.

    Args:
        class_names: Class names, in the order of the labels.
        splits: The shards of "training" and, if there are any, "validation": "file", "images", "bytes" and "sha256" of
            each.
        labels: SHA-256 of each split's file of labels.
        images_per_class: Number of images of each class, by split.
        unreadable: "file" and "problem" of the files that were left out.
    """

    class_names: tuple[str, ...]
    splits: dict[str, list[dict[str, Any]]]
    labels: dict[str, str]
    images_per_class: dict[str, dict[str, int]]
    unreadable: list[dict[str, str]]

    def counts(self) -> dict[str, int]:
        """Returns the number of images of each split."""
        return {name: sum(shard["images"] for shard in shards) for name, shards in self.splits.items()}

    def shards(self) -> Iterator[dict[str, Any]]:
        """Yields the shards of all splits."""
        for shards in self.splits.values():
            yield from shards


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest, or raises ValueError if it is invalid, or a shard is missing or has another size."""
    manifest = parse_manifest(folder)
    for file, problem in changed_shards(folder, manifest):
        raise InvalidValueError(f"'{file}' {problem}; {_REMEDY}")
    return manifest


def changed_shards(folder: Path, manifest: Manifest) -> list[tuple[Path, str]]:
    """Returns (path, problem) of the shards that are missing or have another size than in the manifest."""
    changed = []
    for shard in manifest.shards():
        file = folder / shard["file"]
        size = file.stat().st_size if file.is_file() else None
        if size != shard["bytes"]:
            changed.append((file, "is missing" if size is None else f"has {size} bytes, not {shard['bytes']}"))
    return changed


def parse_manifest(folder: Path) -> Manifest:
    """Reads the manifest without looking at the shards; it may come from anyone, so each field is checked.

    Raises:
        FileNotFoundError: there is no manifest.
        ValueError: it has another format or form, or names a file outside the folder.
    """
    file = folder / MANIFEST
    remedy = "remove it and prepare the shards again"
    try:
        stored = read_json(file, {"format": int}, remedy)
    except FileNotFoundError as error:
        raise MissingFileError(f"'{folder}' is not a folder of shards, since it has no {MANIFEST}.") from error
    if stored["format"] != FORMAT:
        raise InvalidValueError(
            f"'{file}' has format {stored['format']}, not {FORMAT}; prepare the shards again, in a new folder."
        )
    try:
        require_form(stored, _FORM)
        manifest = Manifest(**{field.name: stored[field.name] for field in dataclasses.fields(Manifest)})
        if problem := _invalid_field(manifest):
            raise InvalidValueError(problem)
    except InvalidValueError as error:
        raise InvalidValueError(f"'{file}' is damaged ({error}); {remedy}.") from error
    for shard in manifest.shards():
        if inside(folder, shard["file"], file).parent != folder:
            raise InvalidValueError(
                f"'{file}' names {shard['file']!r:.200}, which is not a plain file name; prepare the shards again."
            )
    return dataclasses.replace(manifest, class_names=tuple(manifest.class_names))


def _invalid_field(manifest: Manifest) -> str:
    """Returns what is wrong with a manifest that was just parsed, or ""."""
    shards = list(manifest.shards())
    if "training" not in manifest.splits or not manifest.splits.keys() <= {"training", "validation"}:
        return "splits must be 'training' and optionally 'validation'"
    if manifest.labels.keys() != manifest.splits.keys() or not all(manifest.splits.values()):
        return "each split must have labels and shards"
    if any(shard["images"] < 1 or shard["bytes"] < 1 for shard in shards):
        return "a shard has no images or bytes"
    for field, names in (("class_names", manifest.class_names), ("file", [shard["file"] for shard in shards])):
        if not names or len(set(names)) < len(names):
            return f"{field} is missing or listed twice"
    return ""


def labels_file(folder: Path, split: str) -> Path:
    """Returns the path of a split's labels, which are in the order of its shards."""
    return folder / f"{split}-labels.npy"


def read_labels(folder: Path, manifest: Manifest, split: str) -> np.ndarray:
    """Reads the labels of a split, shape (images,), int32, or raises ValueError if they do not match the manifest."""
    file = inside(folder, labels_file(folder, split).name, folder / MANIFEST)
    try:  # memory-mapped, since the header may declare more than the file holds
        labels = np.array(np.lib.format.open_memmap(file, mode="r"))
    except FileNotFoundError:
        raise InvalidValueError(f"'{file}' is missing; {_REMEDY}") from None
    except Exception as error:  # NumPy may raise anything, depending on where the file is broken
        raise InvalidValueError(f"'{file}' is not a file of labels ({first_line(error)}); {_REMEDY}") from error
    if problem := _invalid_labels(file, labels, manifest, split):
        raise InvalidValueError(f"'{file}' {problem}; {_REMEDY}")
    return labels


def _invalid_labels(file: Path, labels: np.ndarray, manifest: Manifest, split: str) -> str:
    count, names = manifest.counts()[split], manifest.class_names
    if labels.dtype != np.int32 or labels.ndim != 1:
        return f"has type {labels.dtype} and shape {labels.shape}, not int32 and one axis"
    if len(labels) != count:
        return f"has {len(labels)} labels for {count} images"
    if outside := labels[(labels < 0) | (labels >= len(names))].tolist():
        return f"has label {outside[0]}, which is not one of {len(names)} classes"
    if sha256_of(file) != manifest.labels[split]:
        return "has changed since it was written"
    if manifest.images_per_class.get(split) != images_per_class(labels, names):
        return "has other numbers of images per class than the manifest"
    return ""


def images_per_class(labels: np.ndarray, class_names: Sequence[str]) -> dict[str, int]:
    """Returns the number of images of each class."""
    return dict(zip(class_names, np.bincount(labels, minlength=len(class_names)).tolist(), strict=True))


def verify_shards(folder: Path) -> Manifest:
    """Reads every shard, and compares it with the manifest's hashes and with the labels.

    Raises:
        FileNotFoundError: there is no manifest.
        ValueError: a shard or the labels have changed, or do not match.
    """
    manifest = read_manifest(folder)
    for split, shards in manifest.splits.items():
        labels = read_labels(folder, manifest, split)
        for shard in shards:
            file, (own, labels) = folder / shard["file"], np.split(labels, [shard["images"]])
            if sha256_of(file) != shard["sha256"]:
                raise InvalidValueError(f"'{file}' has changed since it was written; remove it and {_REMEDY}")
            if problem := _invalid_records(file, own):
                raise InvalidValueError(f"'{file}' {problem}; prepare the shards again, in a new folder.")
    return manifest


def _invalid_records(file: Path, labels: np.ndarray) -> str:
    label = {"label": tf.io.FixedLenFeature((), tf.int64)}
    try:
        batches = [tf.io.parse_example(raw, label)["label"] for raw in tf.data.TFRecordDataset(str(file)).batch(64)]
    except tf.errors.OpError as error:
        return f"cannot be read ({tensorflow_reason(error)})"
    found = np.concatenate([np.zeros(0, "int64"), *(batch.numpy() for batch in batches)])
    if len(found) != len(labels):
        return f"has {len(found)} images, not {len(labels)}"
    return "" if (found == labels).all() else "has other labels than the file of labels"


def sha256_of(file: Path) -> str:
    """Returns the SHA-256 of a file's contents."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def shard_split(folder: Path, manifest: Manifest, split: str) -> ShardSplit:
    """Returns the images of a split."""
    files = tuple(str(folder / shard["file"]) for shard in manifest.splits[split])
    return ShardSplit(files, read_labels(folder, manifest, split))
