"""Opens a tf.data.Dataset, the user's own or one of TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import tensorflow as tf

from keras_crossvit._internal.errors import InvalidTypeError, InvalidValueError
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.optional import require_library
from keras_crossvit.pipeline.elements import map_elements
from keras_crossvit.pipeline.split_names import EVALUATION, TEST, TRAINING, VALIDATION, split_kinds
from keras_crossvit.pipeline.splits import DatasetSplit

_INSPECTED = 16  # images of a dataset of floats
_HIGHEST_NORMALIZED = 10.0  # above values of 0 to 1, and normalized ones
ClassesAndSplits = tuple[tuple[str, ...], DatasetSplit, DatasetSplit | None]


def open_datasets(
    data: tf.data.Dataset | tuple[tf.data.Dataset, tf.data.Dataset | None], class_names: Sequence[str] | None
) -> ClassesAndSplits:
    """Opens a dataset, or a pair of datasets for training and validation."""
    training, validation = data if isinstance(data, (tuple, list)) and len(data) == 2 else (data, None)
    given = (training,) if validation is None else (training, validation)
    for dataset in given:
        _require_labelled_images(dataset)
    own = [names for names in map(own_class_names, given) if names]
    if len(own) == 2 and own[0] != own[1]:
        raise InvalidValueError(
            f"The classes of the training dataset, {', '.join(own[0])}, differ from those of the validation dataset, "
            f"{', '.join(own[1])}; make both from folders of the same classes."
        )
    names = tuple(map(str, class_names or (own[0] if own else ())))
    if not names:
        raise InvalidValueError(
            "A tf.data.Dataset has no class names; pass class_names=[...] in the order of its labels."
        )
    splits = [_split(dataset, len(names)) for dataset in given]
    return names, splits[0], splits[1] if len(splits) == 2 else None


def own_class_names(data: object) -> list[str] | None:
    """Returns the class names that `keras.utils.image_dataset_from_directory` gives its datasets, or None."""
    first = data[0] if isinstance(data, (tuple, list)) and data else data
    names = getattr(first, "class_names", None) if isinstance(first, tf.data.Dataset) else None
    return list(names) if names else None


def tensorflow_splits(name: str) -> dict[str, str]:
    """Downloads a data set and returns its split of each kind: "training", "validation" and "test", if it has them."""
    splits = _builder(name).info.splits
    names = {kind: split for split, kind in reversed(split_kinds(splits).items())}
    if EVALUATION in names:
        names.setdefault(TEST if VALIDATION in names else VALIDATION, names.pop(EVALUATION))
    if TRAINING not in names:
        raise InvalidValueError(f"'{name}' has no training split, only {', '.join(splits)}; use another data set.")
    return {kind: names[kind] for kind in (TRAINING, VALIDATION, TEST) if kind in names}


def open_tensorflow_dataset(
    name: str, validation_split: float, *, has_default: bool = False, test: bool = False
) -> tuple[*ClassesAndSplits, None, float]:
    """Downloads and opens a data set of TensorFlow Datasets.

    Args:
        name: Its name.
        validation_split: Fraction of the training split, its last images in whole percent, to use for validation.
        has_default: Whether to prefer its own validation split. Defaults to False.
        test: Whether to open only the test split. Defaults to False.

    Returns:
        Arguments of an `ImageDataset`.
    """
    names = tensorflow_splits(name)
    builder = _builder(name)
    training = names[TRAINING]
    chosen: list[str | None] = [training, None]
    fraction = 0.0
    if test:
        if TEST not in names:
            raise InvalidValueError(f"'{name}' has no test split, only {', '.join(names.values())}; use one of them.")
        chosen = [names[TEST], None]
    elif VALIDATION in names and (has_default or not validation_split):
        chosen = [training, names[VALIDATION]]
    elif validation_split:
        border = round(100 * (1 - validation_split))
        if not 0 < border < 100:
            raise InvalidValueError(
                f"validation_split {validation_split:g} is not between 0.01 and 0.99; '{training}' is split in whole "
                "percent."
            )
        chosen, fraction = [f"{training}[:{border}%]", f"{training}[{border}%:]"], validation_split
        logger.info(
            "'%s': the last %d %% of the split '%s' are used for validation, regardless of classes and seed.",
            *(name, 100 - border, training),
        )
    splits = (each and builder.as_dataset(split=each, as_supervised=True, shuffle_files=False) for each in chosen)
    return *open_datasets(tuple(splits), builder.info.features["label"].names), None, fraction


def _builder(name: str) -> Any:
    library = require_library("tensorflow_datasets", "tfds")
    try:
        builder = library.builder(name)
    except ValueError as error:  # its message lists every data set
        raise InvalidValueError(f"TensorFlow Datasets has no data set '{name}'; see its catalog.") from error
    builder.download_and_prepare()
    return builder


def _require_labelled_images(dataset: tf.data.Dataset) -> None:
    """Raises unless the elements of a dataset are uint8 images with a label."""
    if isinstance(dataset, (str, PathLike)):
        raise InvalidTypeError(
            f"Expected a tf.data.Dataset, got the path '{dataset}' in a list or tuple. Put the folders of training and "
            "validation images as 'train' and 'val' into one folder, and pass that."
        )
    if not isinstance(dataset, tf.data.Dataset):
        raise InvalidTypeError(
            f"Expected a folder, a tf.data.Dataset or a pair of them, got {type(dataset).__name__}. For arrays use "
            "tf.data.Dataset.from_tensor_slices((images, labels))."
        )
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or any(each.shape.rank is None for each in spec):
        raise InvalidValueError(
            f"Elements {spec} are not pairs (image, label) of known rank; map the dataset to such pairs."
        )
    image = spec[0]
    if (
        image.shape.rank not in (3, 4)
        or image.shape[-1] not in (1, 3)
        or not (image.dtype == tf.uint8 or image.dtype.is_floating)
    ):
        raise InvalidValueError(
            f"Images of shape {image.shape} and type {image.dtype.name} are not (height, width, 1 or 3), or batches of "
            "them, of uint8 or floats with values from 0 to 255. If they come from a folder, pass the folder; else map "
            "the dataset to such images, or set their shape with tf.ensure_shape."
        )


def _split(dataset: tf.data.Dataset, num_classes: int) -> DatasetSplit:
    """Returns the images of a dataset one by one, as uint8, with their number."""
    images = dataset.unbatch() if dataset.element_spec[0].shape.rank == 4 else dataset
    if own_class_names(dataset):
        images = map_elements(images, lambda image, label: (image, _class_number(label)))
    image, label = images.element_spec
    if label.shape.rank not in (0, 1) or (label.shape.rank == 0 and not label.dtype.is_integer):
        raise InvalidValueError(
            f"Labels of shape {label.shape} and type {label.dtype.name} are neither class numbers nor vectors of 0 and "
            "1; map the dataset to one of them."
        )
    if label.shape.rank == 1 and label.shape[0] not in (None, num_classes):
        raise InvalidValueError(
            f"Labels of {label.shape[0]} entries do not match {num_classes} class names; pass one name for each entry."
        )
    if image.dtype != tf.uint8:
        _require_pixel_values(images)
        images = map_elements(images, lambda image, label: (tf.saturate_cast(tf.round(image), tf.uint8), label))
    return DatasetSplit(images, _count(dataset, images), num_classes)


def _class_number(label: tf.Tensor) -> tf.Tensor:
    """Returns the class of a label of `image_dataset_from_directory`, which may be one-hot or binary of shape (1,)."""
    if label.shape.rank == 0:
        return label
    return tf.cast(label[0], tf.int32) if label.shape[0] == 1 else tf.argmax(label)


def _require_pixel_values(images: tf.data.Dataset) -> None:
    """Raises if the first images look normalized."""
    highest = max((float(tf.reduce_max(image)) for image, _ in images.take(_INSPECTED)), default=255.0)
    if highest <= _HIGHEST_NORMALIZED:
        raise InvalidValueError(
            f"The first images have only values up to {highest:g}, but the range is 0 to 255; leave out the step that "
            "scales or normalizes them."
        )


def _count(dataset: tf.data.Dataset, images: tf.data.Dataset) -> int:
    """Returns the number of images, which a dataset knows unless it is of batches, or of an unknown length."""
    if paths := getattr(dataset, "file_paths", None):  # of image_dataset_from_directory
        return len(paths)
    count = int(images.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise InvalidValueError("The dataset never ends; leave out repeat(), since a run has epochs of its own.")
    if count == tf.data.UNKNOWN_CARDINALITY:
        logger.info("Counting the images of the dataset, which does not know their number ...")
        count = int(images.reduce(np.int64(0), lambda number, _: number + 1))
    if count == 0:
        raise InvalidValueError("The dataset has no images; check the steps that make it.")
    return count
