"""Writes shards from a folder of images."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from os import PathLike
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_crossvit._internal.checks import resolve_threads
from keras_crossvit._internal.errors import FileError, InvalidValueError, tensorflow_disk_reason
from keras_crossvit._internal.files import UNFINISHED, atomic_write, remove_unfinished, write_text
from keras_crossvit._internal.image_files import read_image_file
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.locks import LOCK_FILE, FolderLock
from keras_crossvit._internal.log import logger
from keras_crossvit.pipeline.dataset import ImageDataset, open_dataset
from keras_crossvit.pipeline.shards import (
    FORMAT,
    MANIFEST,
    Manifest,
    changed_shards,
    images_per_class,
    labels_file,
    parse_manifest,
    read_labels,
    sha256_of,
)
from keras_crossvit.pipeline.splits import FileSplit

SHARD_BYTES = 128 * 2**20
_PLAN = "plan.sha256"
_SHUFFLE = 4  # seeds a random stream of its own; see order.py


@dataclasses.dataclass(frozen=True)
class _Shard:
    """A shard to write: the name of the file and of the split, and the indices of its images in the split."""

    name: str
    split: str
    indices: np.ndarray


@known_keywords_only
def prepare(
    folder: str | PathLike[str],
    output: str | PathLike[str],
    *,
    validation_split: float | None = None,
    seed: int = 0,
    max_unreadable: int = 0,
    follow_links: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Writes the images of class folders into shards, with a manifest of classes, counts and hashes.

    The files' bytes are not changed. The images of a split are shuffled once, so that any part of a shard has all
    classes. Shards are written atomically. After an interruption the same call continues; it also rewrites shards that
    are missing or of another size.

    Args:
        folder: A folder, as in `open_dataset`.
        output: Folder to write to.
        validation_split: As in `open_dataset`. Defaults to None.
        seed: Determines the validation images and the order. Defaults to 0.
        max_unreadable: As in `open_dataset`. Defaults to 0.
        follow_links: As in `open_dataset`. Defaults to False.
        shard_bytes: Approximate size of a shard. Defaults to 128 MiB.

    Returns:
        The manifest.

    Raises:
        ValueError: too many files are unreadable, images are multi-label, or `output` has shards of other images.
        OSError: `output` cannot be written.
        RuntimeError: another process is writing to `output`, or it was removed meanwhile.
    """
    output = Path(output)
    dataset = open_dataset(
        folder,
        validation_split=validation_split,
        seed=seed,
        max_unreadable=max_unreadable,
        follow_links=follow_links,
    )
    both = {"training": dataset.training, "validation": dataset.validation}
    splits = {name: split for name, split in both.items() if isinstance(split, FileSplit)}
    if not splits:
        raise InvalidValueError(f"'{folder}' has no image files to write into shards; pass the folder that has them.")
    if dataset.is_multi_label:
        raise InvalidValueError(f"'{folder}' has multi-label images, which shards do not support; train on the folder.")
    shards = [shard for name, split in splits.items() for shard in _plan(name, split, seed, shard_bytes)]
    fingerprint = _fingerprint(dataset, splits, shards)
    _require_same_plan(output, fingerprint)
    labels = {
        name: split.labels[np.concatenate([shard.indices for shard in shards if shard.split == name])]
        for name, split in splits.items()
    }
    remove_unfinished(output)
    if (complete := _complete(output, dataset, shards, labels)) is not None:
        logger.info("'%s' is already complete", output)
        return complete
    output.mkdir(parents=True, exist_ok=True)
    with FolderLock(output) as lock:
        _require_same_plan(output, fingerprint)  # which another process may have begun in between
        if not (output / _PLAN).is_file():
            write_text(output / _PLAN, fingerprint)
        _remove_changed(output, shards)
        _write_shards(lock, splits, shards)
        return _write_labels_and_manifest(lock, dataset, shards, labels)


def _write_labels_and_manifest(
    lock: FolderLock, dataset: ImageDataset, shards: list[_Shard], labels: dict[str, np.ndarray]
) -> Manifest:
    output = lock.folder
    lock.require_held()
    for name, column in labels.items():
        with atomic_write(labels_file(output, name)) as unfinished:
            np.save(unfinished, column)
    manifest = Manifest(
        class_names=dataset.class_names,
        splits={name: [_entry(output, shard) for shard in shards if shard.split == name] for name in labels},
        labels={name: sha256_of(labels_file(output, name)) for name in labels},
        images_per_class={name: images_per_class(column, dataset.class_names) for name, column in labels.items()},
        unreadable=[{"file": file, "problem": problem} for file, problem in dataset.unreadable],
    )
    write_text(output / MANIFEST, json.dumps({"format": FORMAT, **dataclasses.asdict(manifest)}, indent=1))
    counts = ", ".join(f"{count} {name}" for name, count in manifest.counts().items())
    logger.info("'%s': %s images of %d classes in %d shards", output, counts, len(dataset.class_names), len(shards))
    return manifest


def _plan(name: str, split: FileSplit, seed: int, shard_bytes: int) -> list[_Shard]:
    total = sum(Path(path).stat().st_size for path in split.files)
    order = np.random.RandomState([_SHUFFLE, seed]).permutation(len(split))
    parts = np.array_split(order, min(len(order), max(1, round(total / shard_bytes))))
    return [_Shard(f"{name}-{i:05d}-of-{len(parts):05d}.tfrecord", name, part) for i, part in enumerate(parts)]


def _entry(output: Path, shard: _Shard) -> dict[str, str | int]:
    file = output / shard.name
    size = file.stat().st_size
    return {"file": shard.name, "images": len(shard.indices), "bytes": size, "sha256": sha256_of(file)}


def _fingerprint(dataset: ImageDataset, splits: dict[str, FileSplit], shards: list[_Shard]) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, dataset.fingerprint()]).encode())
    for split in splits.values():
        for path in split.files:
            status = Path(path).stat()
            digest.update(f"|{status.st_size}|{status.st_mtime_ns}".encode())
    for shard in shards:
        digest.update(shard.name.encode() + shard.indices.astype("int64").tobytes())
    return digest.hexdigest()


def _require_same_plan(output: Path, fingerprint: str) -> None:
    plan = output / _PLAN
    if plan.is_file():
        if plan.read_bytes() != fingerprint.encode():
            raise InvalidValueError(
                f"'{output}' has shards of other images or settings; remove it, or pass another folder."
            )
    elif output.is_dir() and any(
        each.name != LOCK_FILE and not each.name.startswith(UNFINISHED) for each in output.iterdir()
    ):
        raise InvalidValueError(f"'{output}' is not empty; pass a new folder.")


def _complete(
    output: Path, dataset: ImageDataset, shards: list[_Shard], labels: dict[str, np.ndarray]
) -> Manifest | None:
    """Returns the manifest if everything is written as planned."""
    if not (output / MANIFEST).is_file():
        return None
    manifest = parse_manifest(output)
    planned = [(shard.split, shard.name, len(shard.indices)) for shard in shards]
    if planned != _unchanged(output, manifest) or manifest.class_names != dataset.class_names:
        return None
    try:
        stored = {split: read_labels(output, manifest, split) for split in labels}
    except InvalidValueError:
        return None  # they are rewritten
    return manifest if all(np.array_equal(stored[split], column) for split, column in labels.items()) else None


def _unchanged(output: Path, manifest: Manifest) -> list[tuple[str, str, int]]:
    """Returns split, file and number of images of the shards that are as the manifest has them."""
    changed = {file.name for file, _ in changed_shards(output, manifest)}
    entries = [(split, entry) for split, entries in manifest.splits.items() for entry in entries]
    return [(split, each["file"], each["images"]) for split, each in entries if each["file"] not in changed]


def _remove_changed(output: Path, shards: list[_Shard]) -> None:
    """Removes the manifest and the shards that differ from it; only planned ones, whatever the manifest names."""
    if not (output / MANIFEST).is_file():
        return
    unchanged = _unchanged(output, parse_manifest(output))
    (output / MANIFEST).unlink()  # first, so that incomplete shards never have one
    changed = [shard for shard in shards if (shard.split, shard.name, len(shard.indices)) not in unchanged]
    for shard in changed:
        (output / shard.name).unlink(missing_ok=True)
    if not changed:
        logger.info("'%s': labels and manifest are rewritten", output)


def _write_shards(lock: FolderLock, splits: dict[str, FileSplit], shards: list[_Shard]) -> None:
    output = lock.folder
    files = {shard.name: output / shard.name for shard in shards}
    missing = [s for s in shards if not files[s.name].is_file() or files[s.name].is_symlink()]
    if len(missing) < len(shards):
        logger.info("%d of %d shards exist already", len(shards) - len(missing), len(shards))
    pool = ThreadPoolExecutor(resolve_threads(None))
    try:
        written = [pool.submit(_write_shard, output, splits[shard.split], shard) for shard in missing]
        for done, future in enumerate(as_completed(written), start=len(shards) - len(missing) + 1):
            try:
                future.result()
                lock.require_held()
            except tf.errors.OpError as error:  # TensorFlow's writer raises no OSError
                raise FileError(
                    f"'{output}' cannot be written ({tensorflow_disk_reason(error)}); free some space and run the same "
                    "command, which continues from here, or pass another folder."
                ) from error
            logger.info("Wrote shard %d of %d", done, len(shards))
    finally:
        pool.shutdown(cancel_futures=True)


def _write_shard(output: Path, split: FileSplit, shard: _Shard) -> None:
    with atomic_write(output / shard.name) as unfinished, tf.io.TFRecordWriter(str(unfinished)) as writer:
        columns = {"label": split.labels, "height": split.heights, "width": split.widths, "decoder": split.decoders}
        for index in shard.indices.tolist():
            contents = read_image_file(split.files[index])
            numbers = {"image": index, **{name: int(column[index]) for name, column in columns.items()}}
            features = {
                "contents": tf.train.Feature(bytes_list=tf.train.BytesList(value=[contents])),
                **{
                    name: tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))
                    for name, number in numbers.items()
                },
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString(deterministic=True))  # the same bytes in every process
