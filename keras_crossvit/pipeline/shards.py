"""Shards: TFRecord files of encoded pictures, with a manifest that says what they hold."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit.files import write_text
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
    """

    class_names: tuple[str, ...]
    splits: dict[str, list[dict[str, Any]]]
    left_out: tuple[tuple[str, str], ...] = ()

    def counts(self) -> dict[str, int]:
        """Pictures of each split."""
        return {name: sum(shard["pictures"] for shard in shards) for name, shards in self.splits.items()}


def labels_file(folder: Path, split: str) -> Path:
    """Where the labels of a split lie, in the order of its shards."""
    return folder / f"{split}-labels.npy"


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest, and holds the files' sizes against it.

    Raises:
        ValueError: the manifest is of another format, or a shard is missing or of another size.
    """
    manifest = stored_manifest(folder)
    for file, found in changed_shards(folder, manifest):
        raise ValueError(f"'{file}' {found}; {_REMEDY}")
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
        ValueError: it is of another format.
    """
    try:
        stored = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(tuple(stored["class_names"]), stored["splits"], tuple(map(tuple, stored["left_out"])))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"'{folder / MANIFEST}' is no manifest of shards ({error}); remove it and prepare them again."
        ) from error
    if stored.get("format") != FORMAT:
        raise ValueError(
            f"'{folder / MANIFEST}' is of format {stored.get('format')}, not {FORMAT}; prepare them in a new folder."
        )
    return manifest


def write_manifest(folder: Path, manifest: Manifest, labels: dict[str, np.ndarray]) -> None:
    """Writes the manifest, and for those who read it how many pictures each class has."""
    names = manifest.class_names
    counts = {split: np.bincount(column, minlength=len(names)).tolist() for split, column in labels.items()}
    per_class = {split: dict(zip(names, column, strict=True)) for split, column in counts.items()}
    described = {"format": FORMAT, **dataclasses.asdict(manifest), "pictures_per_class": per_class}
    write_text(folder / MANIFEST, json.dumps(described, indent=1))


def check_hashes(folder: Path) -> Manifest:
    """Reads every shard and compares it with the manifest.

    Raises:
        ValueError: a shard has changed.
    """
    manifest = read_manifest(folder)
    for shard in (shard for shards in manifest.splits.values() for shard in shards):
        if sha256_of(folder / shard["file"]) != shard["sha256"]:
            raise ValueError(f"'{folder / shard['file']}' has changed since it was written; remove it, for {_REMEDY}")
    return manifest


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's contents."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def shard_split(folder: Path, manifest: Manifest, split: str) -> ShardSplit | None:
    """The pictures of a split, or None where it has none."""
    shards = manifest.splits.get(split)
    if not shards:
        return None
    return ShardSplit(tuple(str(folder / shard["file"]) for shard in shards), np.load(labels_file(folder, split)))
