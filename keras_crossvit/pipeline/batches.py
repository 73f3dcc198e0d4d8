"""Batches of both inputs and targets, for training and for evaluation."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_crossvit._internal.checks import require_integer, resolve_threads
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.pipeline.augmentation import Augmentation
from keras_crossvit.pipeline.dataset import ImageDataset
from keras_crossvit.pipeline.decoding import Decoder
from keras_crossvit.pipeline.order import finalize, mixing_plan, stream_key
from keras_crossvit.pipeline.samples import augment_sample, bicubic_resizer, mix_and_resize, target_of
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.preprocessing.transforms import small_patch_images


def steps_per_epoch(source: ImageDataset, batch_size: int) -> int:
    """Batches of an epoch of training, the remainder dropped.

    Raises:
        ValueError: there are fewer training pictures than a batch takes.
    """
    steps = len(source.training) // require_integer("batch_size", batch_size, minimum=1)
    if not steps:
        raise InvalidValueError(
            f"batch_size {batch_size} is more than the {len(source.training)} training pictures; use a smaller one."
        )
    return steps


def training_batches(
    source: ImageDataset,
    config: Any,
    augmentation: Augmentation,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    skip_batches: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int | None = None,
) -> tf.data.Dataset:
    """The batches of one epoch, every random choice in them a function of (seed, epoch, sample) alone.

    Args:
        source: The pictures, as `open_dataset` finds them.
        config: `CrossViTConfig` of the model: sizes of both images, channels, number of classes.
        augmentation: What is done to each picture.
        batch_size: Pictures of a step, over all processes.
        seed: Fixes order and augmentation, together with `epoch`.
        epoch: Round through the pictures, from 0.
        skip_batches: Batches to leave out at the beginning, without decoding their pictures. Defaults to 0.
        process_index: Which of `process_count` processes this is. Defaults to 0.
        process_count: Processes that share every batch, each its own rows. Defaults to 1.
        threads: Pictures that are worked on at once. Defaults to None: as many as there are processors.

    Returns:
        Dataset of ((small_patch_image, large_patch_image), target): normalised images of shape
        (B / process_count, height, width, channels) and targets of shape (B / process_count, num_classes), float32. It
        has `steps_per_epoch(source, batch_size) - skip_batches` elements.

    Raises:
        ValueError: arguments do not fit each other, or the model does not fit the classes.
    """
    unit = 2 if augmentation.mixes else 1  # pictures that are mixed with each other
    _check_batches(source, config, batch_size, unit, process_index, process_count)
    for label, number in (("seed", seed), ("epoch", epoch), ("skip_batches", skip_batches)):
        require_integer(label, number, minimum=0)
    steps = steps_per_epoch(source, batch_size)
    threads = resolve_threads(threads)
    records = source.training.records(
        repeats=augmentation.repeats, seed=seed, epoch=epoch, skip=skip_batches * batch_size
    )
    plan = mixing_plan(augmentation, steps, *config.image_sizes[0], seed=seed, epoch=epoch)
    mixing = {name: np.asarray(value)[skip_batches:] for name, value in vars(plan).items()}
    rows = _rows(batch_size, unit, process_index, process_count)
    keys = tf.constant([stream_key(purpose, seed=seed, epoch=epoch) for purpose in ("uniform", "normal", "noise")])

    def arrange(records: dict, mixing: dict) -> tuple[dict, dict]:
        return (
            {name: tf.gather(column, rows) for name, column in records.items()},
            {name: tf.repeat(value[None], len(rows), axis=0) for name, value in mixing.items()},
        )

    augment = augment_sample(config, augmentation)
    finish = mix_and_resize(config)
    batches = tf.data.Dataset.zip(
        records.batch(batch_size, drop_remainder=True), tf.data.Dataset.from_tensor_slices(mixing)
    )
    samples = batches.map(arrange).unbatch()
    samples = samples.map(
        lambda record, mixing: (*augment(record, keys), mixing), num_parallel_calls=threads, deterministic=True
    )
    units = samples.batch(unit, drop_remainder=True).map(finish, num_parallel_calls=threads, deterministic=True)
    batched = units.batch(len(rows) // unit, drop_remainder=True).map(_join_units)
    return finalize(batched, max(0, steps - skip_batches), threads)


def evaluation_batches(
    source: ImageDataset,
    config: Any,
    batch_size: int,
    *,
    split: str = "validation",
    threads: int | None = None,
    crop_fraction: float | None = None,
    whole_batches: bool = False,
    process_index: int = 0,
    process_count: int = 1,
) -> tf.data.Dataset:
    """The pictures of a split in their order, as `preprocess` makes them.

    Args:
        source: The pictures.
        config: `CrossViTConfig` of the model.
        batch_size: Pictures of a batch; the last may have fewer.
        split: "validation" or "training". Defaults to "validation".
        threads: Pictures that are worked on at once. Defaults to None: as many as there are processors.
        crop_fraction: As `preprocess` takes it. Defaults to None.
        whole_batches: Whether the last batch is filled up and weights come along, which are 0 for what fills it, and
            for the others such that means of weighted losses over all rows are means over the pictures. Defaults to
            False.
        process_index: Which of `process_count` processes this is. Defaults to 0.
        process_count: Processes that share every batch, which goes with `whole_batches` alone. Defaults to 1.

    Returns:
        Dataset of ((small_patch_image, large_patch_image), target), as of `training_batches`, or with weights of shape
        (B / process_count,) as a third.

    Raises:
        ValueError: there is no such split, or the model does not fit the classes.
    """
    chosen = {"validation": source.validation, "training": source.training}.get(split)
    if chosen is None:
        raise InvalidValueError(f"there are no '{split}' pictures; give a folder 'val', or validation_split=0.1.")
    _check_batches(source, config, batch_size, 1, process_index, process_count)
    threads = resolve_threads(threads)
    resize = bicubic_resizer(*config.image_sizes, config.in_channels)

    def image_and_target(record: dict, *weight: tf.Tensor) -> tuple:
        image = _evaluation_image(record, config, crop_fraction)
        return image, target_of(record["label"], config.num_classes, 0.0), *weight

    records = chosen.records_in_order()
    if whole_batches:
        records = _pad_last_batch(records, len(chosen), batch_size, process_index, process_count)
    images = records.map(image_and_target, num_parallel_calls=threads, deterministic=True)
    batched = images.batch(batch_size // process_count, drop_remainder=whole_batches)
    batches = batched.map(lambda image, *others: ((image, resize(image)), *others))
    return finalize(batches, -(-len(chosen) // batch_size), threads)


def _pad_last_batch(
    records: tf.data.Dataset, images: int, batch_size: int, process_index: int, process_count: int
) -> tf.data.Dataset:
    """A process's rows of whole batches as (record, weight); the first picture fills the last batch up."""
    missing = -images % batch_size
    weights = np.concatenate([np.full(images, (images + missing) / images), np.zeros(missing)]).astype("float32")
    rows = _rows(batch_size, 1, process_index, process_count)
    whole = tf.data.Dataset.zip(
        records.concatenate(records.take(1).repeat(missing)), tf.data.Dataset.from_tensor_slices(weights)
    )
    whole = whole.batch(batch_size).map(
        lambda *columns: tf.nest.map_structure(lambda column: tf.gather(column, rows), columns)
    )
    return whole.unbatch()


def _evaluation_image(record: dict, config: Any, crop_fraction: float | None) -> tf.Tensor:
    def from_file(path: bytes) -> np.ndarray:
        return from_pixels(read_image(os.fsdecode(path)))

    def from_contents(contents: bytes) -> np.ndarray:
        return from_pixels(read_image(io.BytesIO(contents)))

    def from_pixels(pixels: np.ndarray) -> np.ndarray:
        return small_patch_images(pixels, config, crop_fraction=crop_fraction)[0]

    def run(function: Callable, argument: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(function, [argument], tf.float32, stateful=False)

    if "path" in record:
        image = run(from_file, record["path"])
    else:
        image = tf.cond(
            record["decoder"] == int(Decoder.TENSOR),
            lambda: run(from_pixels, tf.io.parse_tensor(record["contents"], tf.uint8)),
            lambda: run(from_contents, record["contents"]),
        )
    return tf.ensure_shape(image, (*config.image_sizes[0], config.in_channels))


def _rows(batch_size: int, unit: int, process_index: int, process_count: int) -> np.ndarray:
    """Rows of a batch that a process works on, those that are mixed with each other side by side.

    timm mixes a row with the one that lies as far from the other end.
    """
    rows = np.arange(batch_size)
    groups = np.stack([rows[: batch_size // 2], rows[::-1][: batch_size // 2]], axis=1) if unit == 2 else rows[:, None]
    return np.array_split(groups, process_count)[process_index].reshape(-1)


def _join_units(images: tuple, target: tf.Tensor) -> tuple:
    """From (units, pictures of a unit, ...) to (pictures, ...)."""

    def join(tensor: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tensor, (-1, *tensor.shape[2:]))

    return tuple(join(image) for image in images), join(target)


def _check_batches(
    source: ImageDataset, config: Any, batch_size: int, unit: int, process_index: int, process_count: int
) -> None:
    require_integer("batch_size", batch_size, minimum=1)
    if config.num_classes != len(source.class_names):
        raise InvalidValueError(
            f"num_classes {config.num_classes} does not fit the {len(source.class_names)} classes of the pictures; "
            f"build the model with num_classes={len(source.class_names)}."
        )
    if config.in_channels not in (1, 3):
        raise InvalidValueError(f"in_channels {config.in_channels} is neither 1 nor 3; pictures are gray or colour.")
    if batch_size % (unit * process_count):
        raise InvalidValueError(
            f"batch_size {batch_size} is not a multiple of {unit * process_count}; it has to be one of twice the "
            "number of processes where pictures are mixed in pairs, and of the number of processes else."
        )
    if not 0 <= process_index < process_count:
        raise InvalidValueError(f"process_index {process_index} is not one of {process_count} processes; count from 0.")
