"""Writes shards: class folders into TFRecord files that are read from their beginning to their end."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from os import PathLike
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_crossvit._internal.checks import resolve_threads
from keras_crossvit._internal.errors import FileError, InvalidValueError, tensorflow_disk_reason
from keras_crossvit._internal.files import atomic_write, remove_unfinished, write_text
from keras_crossvit.pipeline.dataset import ImageDataset, open_dataset
from keras_crossvit.pipeline.shards import (
    FORMAT,
    MANIFEST,
    Manifest,
    changed_shards,
    images_per_class,
    labels_file,
    read_labels,
    sha256_of,
    stored_manifest,
    write_manifest,
)
from keras_crossvit.pipeline.splits import FileSplit

SHARD_BYTES = 128 * 2**20
_PLAN = "plan.sha256"
_SHUFFLE = 4  # stream of random numbers


@dataclasses.dataclass(frozen=True)
class _Shard:
    """A shard to write: its name, and the places of its pictures in the split."""

    name: str
    split: str
    places: np.ndarray


def prepare(
    folder: str | PathLike,
    output: str | PathLike,
    *,
    validation_split: float | None = None,
    seed: int = 0,
    max_unreadable: int = 0,
    shard_bytes: int = SHARD_BYTES,
    report: Callable[[str], None] | None = print,
) -> Manifest:
    """Writes the pictures of class folders into shards, and a manifest of classes, counts and hashes.

    The files' bytes are kept as they are. Within a split the pictures are shuffled once, so that a window of a shard
    holds all classes. Each shard is written whole or not at all; the same call goes on where an interrupted one ended,
    and writes anew what is missing or of another size.

    Args:
        folder: As `open_dataset` takes it.
        output: Folder to write to.
        validation_split: As `open_dataset` takes it. Defaults to None.
        seed: Fixes split and order. Defaults to 0.
        max_unreadable: As `open_dataset` takes it. Defaults to 0.
        shard_bytes: Size of a shard, about. Defaults to 128 MiB.
        report: Takes a line of progress at a time. Defaults to `print`; None for silence.

    Returns:
        What has been written.

    Raises:
        ValueError: more files than the limit cannot be read, or `output` holds shards of other pictures.
        OSError: `output` cannot be written.
    """
    output = Path(output)
    report = report or (lambda line: None)
    source = open_dataset(
        folder, validation_split=validation_split, seed=seed, max_unreadable=max_unreadable, report=report
    )
    if not isinstance(source.training, FileSplit):
        raise InvalidValueError(
            f"'{folder}' has no files of pictures to write into shards; name the folder that has them."
        )
    if source.has_vectors:
        raise InvalidValueError(
            f"'{folder}' has pictures of several classes, which shards do not hold; train on it as it is."
        )
    splits = {"training": source.training, **({"validation": source.validation} if source.validation else {})}
    shards = [shard for name, split in splits.items() for shard in _plan(name, split, seed, shard_bytes)]
    _keep_to_plan(output, _fingerprint(source, shards))
    labels = {
        name: split.labels[np.concatenate([shard.places for shard in shards if shard.split == name])]
        for name, split in splits.items()
    }
    if (complete := _complete(output, source, shards, labels, report)) is not None:
        report(f"'{output}' is complete already")
        return complete
    _write_shards(output, splits, shards, report)
    for name, column in labels.items():
        with atomic_write(labels_file(output, name)) as unfinished:
            np.save(unfinished, column)
    manifest = Manifest(
        source.class_names,
        _entries(output, shards),
        tuple(source.survey.unreadable),
        {name: sha256_of(labels_file(output, name)) for name in labels},
        {name: images_per_class(column, source.class_names) for name, column in labels.items()},
    )
    write_manifest(output, manifest)
    counted = ", ".join(f"{count} {name}" for name, count in manifest.counts().items())
    report(f"'{output}': {counted} pictures of {len(source.class_names)} classes in {len(shards)} shards")
    return manifest


def _plan(name: str, split: FileSplit, seed: int, shard_bytes: int) -> list[_Shard]:
    total = sum(Path(path).stat().st_size for path in split.paths)
    order = np.random.RandomState([_SHUFFLE, seed]).permutation(len(split))
    parts = np.array_split(order, min(len(order), max(1, round(total / shard_bytes))))
    return [_Shard(f"{name}-{i:05d}-of-{len(parts):05d}.tfrecord", name, part) for i, part in enumerate(parts)]


def _entries(output: Path, shards: list[_Shard]) -> dict[str, list[dict]]:
    entries: dict[str, list[dict]] = {shard.split: [] for shard in shards}
    for shard in shards:
        file = output / shard.name
        facts = {"images": len(shard.places), "bytes": file.stat().st_size, "sha256": sha256_of(file)}
        entries[shard.split].append({"file": shard.name, **facts})
    return entries


def _fingerprint(source: ImageDataset, shards: list[_Shard]) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, source.fingerprint()]).encode())
    for split in filter(None, (source.training, source.validation)):
        for path in split.paths:
            status = Path(path).stat()
            digest.update(f"|{status.st_size}|{status.st_mtime_ns}".encode())
    for shard in shards:
        digest.update(shard.name.encode() + shard.places.astype("int64").tobytes())
    return digest.hexdigest()


def _keep_to_plan(output: Path, fingerprint: str) -> None:
    plan = output / _PLAN
    if plan.is_file():
        if plan.read_text() == fingerprint:
            remove_unfinished(output)
            return
        raise InvalidValueError(
            f"'{output}' holds shards of other pictures, or of other settings; remove it or name another."
        )
    remove_unfinished(output)
    if output.is_dir() and any(output.iterdir()):
        raise InvalidValueError(f"'{output}' is not empty; name a new folder.")
    write_text(plan, fingerprint)


def _complete(
    output: Path,
    source: ImageDataset,
    shards: list[_Shard],
    labels: dict[str, np.ndarray],
    report: Callable[[str], None],
) -> Manifest | None:
    """The manifest, if all is as it was planned and written; else it is removed, with the plan's shards that are not.

    No other file is removed, whatever a manifest names.
    """
    if not (output / MANIFEST).is_file():
        return None
    manifest = stored_manifest(output)
    changed = {file.name for file, _ in changed_shards(output, manifest)}
    written = [
        (split, shard["file"], shard["images"])
        for split, entries in manifest.splits.items()
        for shard in entries
        if shard["file"] not in changed
    ]
    planned = {(shard.split, shard.name, len(shard.places)): output / shard.name for shard in shards}
    if list(planned) == written and manifest.class_names == source.class_names:
        if _are_written(output, manifest, labels):
            return manifest
        report(f"'{output}': labels and manifest are written anew")
    (output / MANIFEST).unlink()  # first, so that an interrupt leaves what is not complete without one
    for each, file in planned.items():
        if each not in written:
            file.unlink(missing_ok=True)
    return None


def _are_written(output: Path, manifest: Manifest, labels: dict[str, np.ndarray]) -> bool:
    """Whether the labels are, and their hashes; manifests of older versions have none."""
    try:
        return bool(manifest.labels) and all(
            np.array_equal(read_labels(output, manifest, split), column) for split, column in labels.items()
        )
    except ValueError:
        return False


def _write_shards(
    output: Path, splits: dict[str, FileSplit], shards: list[_Shard], report: Callable[[str], None]
) -> None:
    missing = [shard for shard in shards if not _is_file_itself(output / shard.name)]
    if len(missing) < len(shards):
        report(f"{len(shards) - len(missing)} of {len(shards)} shards are there already")
    pool = ThreadPoolExecutor(resolve_threads(None))
    try:
        written = [pool.submit(_write_shard, output, splits[shard.split], shard) for shard in missing]
        for done, future in enumerate(as_completed(written), start=len(shards) - len(missing) + 1):
            try:
                future.result()
            except tf.errors.OpError as error:  # of TensorFlow's writer, which knows no OSError
                raise FileError(
                    f"'{output}' cannot be written ({tensorflow_disk_reason(error)}); make room or give another "
                    "folder. The same command goes on from here."
                ) from error
            report(f"shard {done} of {len(shards)} written")
    finally:
        pool.shutdown(cancel_futures=True)


def _is_file_itself(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _write_shard(output: Path, split: FileSplit, shard: _Shard) -> None:
    with atomic_write(output / shard.name) as unfinished, tf.io.TFRecordWriter(str(unfinished)) as writer:
        for place in shard.places.tolist():
            contents = Path(split.paths[place]).read_bytes()
            numbers = {"label": split.labels, "height": split.heights, "width": split.widths, "decoder": split.decoders}
            features = {name: _integer(column[place]) for name, column in numbers.items()}
            features["image"] = _integer(place)
            features["contents"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[contents]))
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def _integer(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))
