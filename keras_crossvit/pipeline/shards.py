"""Shards: TFRecord files of encoded pictures, with a manifest that says what they hold."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_crossvit._internal.errors import InvalidValueError, tensorflow_reason
from keras_crossvit._internal.files import inside, write_text
from keras_crossvit.pipeline.splits import ShardSplit

MANIFEST = "manifest.json"
FORMAT = 1
_REMEDY = "'keras-crossvit prepare', run as it was before, writes anew what is missing or of another size."


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds.

    Args:
        class_names: Names of the classes, in the order of the labels.
        splits: For "training" and "validation" the shards: each with "file", "pictures", "bytes" and "sha256".
        left_out: (path, problem) of files that could not be read.
        labels: SHA-256 of each split's file of labels. Defaults to none, as in manifests of older versions.
        images_per_class: For each split the number of images by class.
    """

    class_names: tuple[str, ...]
    splits: dict[str, list[dict[str, Any]]]
    left_out: tuple[tuple[str, str], ...] = ()
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    images_per_class: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Pictures of each split."""
        return {name: sum(shard["images"] for shard in shards) for name, shards in self.splits.items()}


def labels_file(folder: Path, split: str) -> Path:
    """Where the labels of a split lie, in the order of its shards."""
    return folder / f"{split}-labels.npy"


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest, and compares it with the files' sizes.

    Raises:
        ValueError: the manifest is of another format, or a shard is missing or of another size.
    """
    manifest = stored_manifest(folder)
    for file, found in changed_shards(folder, manifest):
        raise InvalidValueError(f"'{file}' {found}; {_REMEDY}")
    return manifest


def changed_shards(folder: Path, manifest: Manifest) -> list[tuple[Path, str]]:
    """Shards that are missing or have another size than the manifest says, and which of both it is."""
    changed = []
    for shard in (shard for shards in manifest.splits.values() for shard in shards):
        file = folder / shard["file"]
        size = file.stat().st_size if file.is_file() else None
        if size != shard["bytes"]:
            changed.append((file, "is missing" if size is None else f"has {size} bytes, not {shard['bytes']}"))
    return changed


def stored_manifest(folder: Path) -> Manifest:
    """Reads the manifest alone.

    Raises:
        ValueError: it is of another format, lacks something, or names a file that does not lie in the folder.
    """
    file = folder / MANIFEST
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise InvalidValueError(
                f"'{file}' is of format {stored['format']!r}, not {FORMAT}; prepare the shards in a new folder."
            )
        fields = {field.name: stored[field.name] for field in dataclasses.fields(Manifest) if field.name in stored}
        manifest = Manifest(**fields)
        wrong = _wrong_field(manifest)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError) as error:
        wrong = f"{type(error).__name__}: {error}"
    if wrong:
        raise InvalidValueError(f"'{file}' is no manifest of shards ({wrong}); remove it and prepare them again.")
    for shard in (shard for shards in manifest.splits.values() for shard in shards):
        if inside(folder, shard["file"], file).parent != folder:
            raise InvalidValueError(
                f"'{file}' names {repr(shard['file'])[:200]}, which is not a plain name; prepare the shards again."
            )
    names = dataclasses.asdict(manifest) | {"class_names": tuple(manifest.class_names)}
    return Manifest(**names | {"left_out": tuple(map(tuple, manifest.left_out))})


def _wrong_field(manifest: Manifest) -> str:
    """What of a manifest that was read is not as it is written, or ''."""
    names, splits = manifest.class_names, manifest.splits
    if not _is_list_of(names, str) or not names or len(set(names)) < len(names):
        return "class_names are not different names"
    if not isinstance(splits, dict) or "training" not in splits or not splits.keys() <= {"training", "validation"}:
        return "splits are not 'training', and 'validation' if there is one"
    for name, shards in splits.items():
        if not _is_list_of(shards, dict) or not shards or not all(map(_is_shard, shards)):
            return f"the shards of '{name}' are not file, pictures, bytes and sha256 each"
    files = [shard["file"] for shards in splits.values() for shard in shards]
    if len(set(files)) < len(files):
        return "a shard is named twice"
    if not isinstance(manifest.images_per_class, dict):
        return "pictures_per_class are not numbers by split"
    if not isinstance(manifest.labels, dict) or (manifest.labels and manifest.labels.keys() != splits.keys()):
        return "labels are not those of the splits"
    if not _is_list_of(manifest.left_out, list) or not all(_is_list_of(pair, str) for pair in manifest.left_out):
        return "left_out are not pairs of path and problem"
    return ""


def _is_list_of(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(each, kind) for each in values)


def _is_shard(shard: dict) -> bool:
    counts, texts = (shard.get("images"), shard.get("bytes")), (shard.get("file"), shard.get("sha256"))
    return all(type(each) is int and each > 0 for each in counts) and all(isinstance(each, str) for each in texts)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest."""
    write_text(folder / MANIFEST, json.dumps({"format": FORMAT, **dataclasses.asdict(manifest)}, indent=1))


def images_per_class(labels: np.ndarray, class_names: Sequence[str]) -> dict[str, int]:
    """Number of images of each class."""
    return dict(zip(class_names, np.bincount(labels, minlength=len(class_names)).tolist(), strict=True))


def read_labels(folder: Path, manifest: Manifest, split: str) -> np.ndarray:
    """Labels of a split in the order of its shards, shape (images,), int32.

    Raises:
        ValueError: they are missing, or do not agree with the manifest.
    """
    file = inside(folder, labels_file(folder, split).name, folder / MANIFEST)
    try:  # mapped, since its header may claim more than the file holds
        labels = np.array(np.lib.format.open_memmap(file, mode="r"))
    except FileNotFoundError:
        raise InvalidValueError(f"'{file}' is missing; {_REMEDY}") from None
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidValueError(f"'{file}' is no file of labels ({error}); {_REMEDY}") from error
    if wrong := _wrong_labels(file, labels, manifest, split):
        raise InvalidValueError(f"'{file}' {wrong}; {_REMEDY}")
    return labels


def _wrong_labels(file: Path, labels: np.ndarray, manifest: Manifest, split: str) -> str:
    count, names = manifest.counts()[split], manifest.class_names
    if labels.dtype != np.int32 or labels.ndim != 1:
        return f"holds {labels.dtype} of shape {labels.shape}, not int32 of one axis"
    if len(labels) != count:
        return f"has {len(labels)} labels for the {count} images of the manifest"
    if outside := labels[(labels < 0) | (labels >= len(names))].tolist():
        return f"has label {outside[0]}, which is none of the manifest's {len(names)} classes"
    if manifest.labels and sha256_of(file) != manifest.labels[split]:
        return "has changed since it was written"
    counted = images_per_class(labels, names)
    if manifest.images_per_class.get(split, counted) != counted:
        return "has other numbers of images per class than the manifest"
    return ""


def check_hashes(folder: Path) -> Manifest:
    """Reads every shard, and compares it and the labels with the manifest and with each other.

    Raises:
        ValueError: a shard or the labels have changed or do not agree.
    """
    manifest = read_manifest(folder)
    for split, shards in manifest.splits.items():
        labels = read_labels(folder, manifest, split)
        for shard in shards:
            file, (own, labels) = folder / shard["file"], np.split(labels, [shard["images"]])
            if sha256_of(file) != shard["sha256"]:
                raise InvalidValueError(f"'{file}' has changed since it was written; remove it, for {_REMEDY}")
            if wrong := _wrong_records(file, own):
                raise InvalidValueError(f"'{file}' {wrong}; prepare the shards in a new folder.")
    return manifest


def _wrong_records(file: Path, labels: np.ndarray) -> str:
    label = {"label": tf.io.FixedLenFeature((), tf.int64)}
    try:
        batches = [tf.io.parse_example(raw, label)["label"] for raw in tf.data.TFRecordDataset(str(file)).batch(64)]
    except tf.errors.OpError as error:
        return f"cannot be read ({tensorflow_reason(error)})"
    found = np.concatenate([batch.numpy() for batch in batches])
    if len(found) != len(labels):
        return f"has {len(found)} images, not the {len(labels)} of the manifest"
    return "" if (found == labels).all() else "has other labels than the file of labels"


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's contents."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def shard_split(folder: Path, manifest: Manifest, split: str) -> ShardSplit | None:
    """The pictures of a split, or None where it has none."""
    shards = manifest.splits.get(split)
    if not shards:
        return None
    return ShardSplit(tuple(str(folder / shard["file"]) for shard in shards), read_labels(folder, manifest, split))
