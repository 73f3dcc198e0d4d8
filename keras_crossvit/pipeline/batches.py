"""Batches of both inputs and targets, for training and for evaluation."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_crossvit._internal.checks import require_integer, resolve_threads
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.pipeline.augmentation import Augmentation
from keras_crossvit.pipeline.dataset import ImageDataset
from keras_crossvit.pipeline.decoding import Decoder
from keras_crossvit.pipeline.elements import map_elements
from keras_crossvit.pipeline.mixing import bicubic_resizer, mix_and_resize, mixing_plan
from keras_crossvit.pipeline.order import stream_key
from keras_crossvit.pipeline.samples import augment_sample, smoothed_target
from keras_crossvit.pipeline.splits import Split
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.preprocessing.transforms import IMAGE, NORMALIZED_IMAGE, TENSORS, inputs_of_kind

_PREFETCHED_BATCHES = 2


@known_keywords_only
def steps_per_epoch(dataset: ImageDataset, batch_size: int) -> int:
    """Returns the number of training batches in an epoch; the remainder is dropped.

    Raises:
        ValueError: there are fewer training images than `batch_size`.
    """
    images = len(dataset.training)
    if require_integer("batch_size", batch_size, minimum=1) > images:
        raise InvalidValueError(
            f"batch_size {batch_size} is larger than the {images} training images; pass at most that (--batch-size)."
        )
    return images // batch_size


@known_keywords_only
def training_batches(
    dataset: ImageDataset,
    config: CrossViTConfig,
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
    """Returns the augmented batches of one epoch; every random choice is a function of (seed, epoch, sample).

    Args:
        dataset: The images, from `open_dataset`.
        config: The model's configuration: image sizes, channels and number of classes.
        augmentation: Settings of the augmentation.
        batch_size: Images per step, over all processes.
        seed: Determines order and augmentation, together with `epoch`.
        epoch: Number of the epoch, from 0.
        skip_batches: Batches to leave out at the start, without decoding their images. Defaults to 0.
        process_index: Number of this process among `process_count`. Defaults to 0.
        process_count: Number of processes that share every batch, each with its own rows. Defaults to 1.
        threads: Number of images to process at once. Defaults to None: the number of processors.

    Returns:
        Dataset of ((small_patch_image, large_patch_image), target), float32: normalized images of shape
        (B / process_count, height, width, channels) and targets of shape (B / process_count, num_classes). It has
        `steps_per_epoch(dataset, batch_size) - skip_batches` elements.

    Raises:
        ValueError: an argument is out of range, or the configuration does not match the classes.
    """
    unit = 2 if augmentation.mixes else 1  # images that are mixed with each other
    _check_batches(dataset, config, batch_size, unit, process_index, process_count)
    for label, number in (("seed", seed), ("epoch", epoch), ("skip_batches", skip_batches)):
        require_integer(label, number, minimum=0)
    steps = steps_per_epoch(dataset, batch_size)
    threads = resolve_threads(threads)
    records = dataset.training.records(
        repeats=augmentation.repeats, seed=seed, epoch=epoch, skip=skip_batches * batch_size
    )
    plan = mixing_plan(augmentation, steps, *config.image_sizes[0], seed=seed, epoch=epoch)
    mixing = {name: np.asarray(value)[skip_batches:] for name, value in vars(plan).items()}
    rows = _rows(batch_size, unit, process_index, process_count)
    keys = tf.constant([stream_key(purpose, seed=seed, epoch=epoch) for purpose in ("uniform", "normal", "noise")])

    def select_rows(records: dict, mixing: dict) -> tuple[dict, dict]:
        return (
            {name: tf.gather(column, rows) for name, column in records.items()},
            {name: tf.repeat(value[None], len(rows), axis=0) for name, value in mixing.items()},
        )

    def augment(record: dict, mixing: dict) -> tuple:
        return *augment_sample(record, keys, config, augmentation), mixing

    def mix(images: tf.Tensor, targets: tf.Tensor, mixing: dict) -> tuple:
        return mix_and_resize(images, targets, mixing, config)

    batches = tf.data.Dataset.zip(
        records.batch(batch_size, drop_remainder=True), tf.data.Dataset.from_tensor_slices(mixing)
    )
    samples = map_elements(map_elements(batches, select_rows).unbatch(), augment, threads)
    units = map_elements(samples.batch(unit, drop_remainder=True), mix, threads)
    joined = map_elements(units.batch(len(rows) // unit, drop_remainder=True), _join_units)
    return _finalize(joined, max(0, steps - skip_batches), threads)


@known_keywords_only
def evaluation_batches(
    dataset: ImageDataset,
    config: CrossViTConfig,
    batch_size: int,
    *,
    split: str = "validation",
    threads: int | None = None,
    crop_fraction: float | None = None,
    whole_batches: bool = False,
    process_index: int = 0,
    process_count: int = 1,
    input_kind: str = TENSORS,
) -> tf.data.Dataset:
    """Returns the images of a split in order, preprocessed as by `keras_crossvit.preprocess`.

    Args:
        dataset: The images, from `open_dataset`.
        config: The model's configuration.
        batch_size: Images per batch, over all processes; the last batch may have fewer.
        split: "validation" or "training". Defaults to "validation".
        threads: Number of images to process at once. Defaults to None: the number of processors.
        crop_fraction: As in `preprocess`. Defaults to None.
        whole_batches: Whether to pad the last batch and add sample weights: 0 for the padding, and for the images such
            that the mean of weighted losses over all rows is the mean over the images. Defaults to False.
        process_index: Number of this process among `process_count`. Defaults to 0.
        process_count: Number of processes that share every batch; more than 1 needs `whole_batches`. Defaults to 1.
        input_kind: What `preprocess` makes of the images, as `Runtime.input_kind` says it. Defaults to "tensors": both
            inputs.

    Returns:
        Dataset of ((small_patch_image, large_patch_image), target) as from `training_batches`, with `whole_batches`
        also the sample weights, of shape (B / process_count,).

    Raises:
        ValueError: the split does not exist, or the configuration does not match the classes.
    """
    chosen = {"validation": dataset.validation, "training": dataset.training}.get(split)
    if chosen is None:
        raise InvalidValueError(f"There are no '{split}' images; add a folder 'val', or pass validation_split=0.1.")
    _check_batches(dataset, config, batch_size, 1, process_index, process_count)
    threads = resolve_threads(threads)
    resize = bicubic_resizer(config)

    def image_and_target(record: dict, *weight: tf.Tensor) -> tuple:
        image = _evaluation_image(record, config, crop_fraction, input_kind)
        return image, smoothed_target(record["label"], config.num_classes, 0.0), *weight

    records = chosen.records_in_order()
    if whole_batches:
        records = _pad_last_batch(records, len(chosen), batch_size, process_index, process_count)
    images = map_elements(records, image_and_target, threads)
    batched = images.batch(batch_size // process_count, drop_remainder=whole_batches)

    def inputs_and_target(image: tf.Tensor, *others: tf.Tensor) -> tuple:
        return (image, resize(image)) if input_kind == TENSORS else (image,), *others

    batches = map_elements(batched, inputs_and_target)
    return _finalize(batches, -(-len(chosen) // batch_size), threads)


def read_images(split: Split, indices: Sequence[int]) -> list[np.ndarray]:
    """Returns the upright RGB pixels of some images of a split, given their numbers in its order."""
    wanted = tf.constant(list(indices), tf.int64)
    records = split.records_in_order().enumerate().filter(lambda number, _: tf.reduce_any(number == wanted))
    found = {int(number): _read_pixels(record) for number, record in records.as_numpy_iterator()}
    return [found[index] for index in indices]


def images_of_batch(split: Split, batch_size: int, *, repeats: int, seed: int, epoch: int, batch: int) -> list[str]:
    """Returns the paths of the images in a batch of `training_batches`, or their numbers in shards or a dataset."""
    records = split.records(repeats=repeats, seed=seed, epoch=epoch, skip=batch * batch_size).take(batch_size)
    return [
        os.fsdecode(each["path"]) if "path" in each else f"image {each['sample'] // repeats}"
        for each in records.as_numpy_iterator()
    ]


def without_tuning(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Switches tf.data's autotuning off.

    Its thread doubles its sleep each time, up to a minute, and an iterator is released only when the thread wakes up:
    the end of an epoch took up to as long as the epoch.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def _finalize(batches: tf.data.Dataset, count: int, threads: int) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Each operation runs in one thread, so that sums have the same order on every machine; images run in parallel.
    options.threading.max_intra_op_parallelism = 1
    options.threading.private_threadpool_size = threads
    counted = batches.apply(tf.data.experimental.assert_cardinality(count))  # unknown where records are streamed
    return without_tuning(counted.prefetch(_PREFETCHED_BATCHES).with_options(options))


def _evaluation_image(record: dict, config: CrossViTConfig, crop_fraction: float | None, kind: str) -> tf.Tensor:
    kind = IMAGE if kind == IMAGE else NORMALIZED_IMAGE
    name = "path" if "path" in record else "contents"

    def read(path_or_contents: bytes, decoder: int) -> np.ndarray:
        pixels = _read_pixels({name: path_or_contents, "decoder": decoder})
        return inputs_of_kind(kind, pixels, config, crop_fraction=crop_fraction)[0][0]

    dtype = tf.uint8 if kind == IMAGE else tf.float32
    image = tf.numpy_function(read, [record[name], record["decoder"]], dtype, stateful=False)
    return tf.ensure_shape(image, (*config.image_sizes[0], config.in_channels))


def _read_pixels(record: dict) -> np.ndarray:
    if record["decoder"] == Decoder.TENSOR:
        return tf.io.parse_tensor(record["contents"], tf.uint8).numpy()
    return read_image(os.fsdecode(record["path"]) if "path" in record else io.BytesIO(record["contents"]))


def _pad_last_batch(
    records: tf.data.Dataset, count: int, batch_size: int, process_index: int, process_count: int
) -> tf.data.Dataset:
    """Returns a process's rows of whole batches as (record, weight); the first image pads the last batch."""
    missing = -count % batch_size
    weights = np.concatenate([np.full(count, (count + missing) / count), np.zeros(missing)]).astype("float32")
    rows = _rows(batch_size, 1, process_index, process_count)
    padded = tf.data.Dataset.zip(
        records.concatenate(records.take(1).repeat(missing)), tf.data.Dataset.from_tensor_slices(weights)
    )

    def select_rows(*columns: tf.Tensor) -> tuple:
        return tf.nest.map_structure(lambda column: tf.gather(column, rows), columns)

    return map_elements(padded.batch(batch_size), select_rows).unbatch()


def _rows(batch_size: int, unit: int, process_index: int, process_count: int) -> np.ndarray:
    """Returns a process's rows of a batch, with the two that are mixed with each other side by side.

    As in timm, a row is mixed with the one at the same distance from the other end of the batch.
    """
    rows = np.arange(batch_size)
    units = np.stack([rows[: batch_size // 2], rows[::-1][: batch_size // 2]], axis=1) if unit == 2 else rows[:, None]
    return np.array_split(units, process_count)[process_index].reshape(-1)


def _join_units(images: tuple, target: tf.Tensor) -> tuple:
    """Reshapes (units, images per unit, ...) to (images, ...)."""
    return tf.nest.map_structure(lambda tensor: tf.reshape(tensor, (-1, *tensor.shape[2:])), (images, target))


def _check_batches(
    dataset: ImageDataset, config: CrossViTConfig, batch_size: int, unit: int, process_index: int, process_count: int
) -> None:
    require_integer("batch_size", batch_size, minimum=1)
    classes = len(dataset.class_names)
    if config.num_classes != classes:
        raise InvalidValueError(
            f"num_classes {config.num_classes} does not match the dataset's {classes} classes; build the model with "
            f"num_classes={classes}."
        )
    if config.in_channels not in (1, 3):
        raise InvalidValueError(
            f"in_channels {config.in_channels} is neither 1 (grayscale) nor 3 (RGB); use one of them."
        )
    if batch_size % (unit * process_count):
        raise InvalidValueError(
            f"batch_size {batch_size} is not a multiple of {unit * process_count}, the number of processes"
            f"{' times the two images that are mixed' if unit == 2 else ''}; use a multiple."
        )
    if not 0 <= process_index < process_count:
        raise InvalidValueError(f"process_index {process_index} is not one of {process_count} processes; count from 0.")
