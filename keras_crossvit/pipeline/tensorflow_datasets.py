"""Opens a tf.data.Dataset, the user's own or one of TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.optional import require_library
from keras_crossvit.pipeline.split_names import EVALUATION, TEST, TRAINING, VALIDATION, split_kinds
from keras_crossvit.pipeline.splits import DatasetSplit

_VALIDATION_KINDS = (VALIDATION, EVALUATION, TEST)  # in order of preference
ClassesAndSplits = tuple[tuple[str, ...], DatasetSplit, DatasetSplit | None]


def open_datasets(
    data: tf.data.Dataset | tuple[tf.data.Dataset, tf.data.Dataset | None], class_names: Sequence[str] | None
) -> ClassesAndSplits:
    """Opens a dataset, or a pair of datasets for training and validation."""
    training, validation = data if isinstance(data, (tuple, list)) and len(data) == 2 else (data, None)
    if not class_names:
        raise InvalidValueError(
            "A tf.data.Dataset has no class names; pass class_names=[...] in the order of its labels."
        )
    validation_split = None if validation is None else _split(validation, len(class_names))
    return tuple(map(str, class_names)), _split(training, len(class_names)), validation_split


def open_tensorflow_dataset(name: str, validation_split: float | None) -> ClassesAndSplits:
    """Downloads and opens a data set of TensorFlow Datasets.

    With `validation_split` the last images of its training split are used for validation, in whole percent; without it,
    its validation or test split.
    """
    library = require_library("tensorflow_datasets", "tfds")
    try:
        builder = library.builder(name)
    except ValueError as error:  # its message lists every data set
        raise InvalidValueError(f"TensorFlow Datasets has no data set '{name}'; see its catalog.") from error
    builder.download_and_prepare()
    names = {kind: split for split, kind in reversed(split_kinds(builder.info.splits).items())}
    if TRAINING not in names:
        raise InvalidValueError(
            f"'{name}' has no training split, only {', '.join(builder.info.splits)}; use another data set."
        )
    training = names[TRAINING]
    chosen = [training, next((names[kind] for kind in _VALIDATION_KINDS if kind in names), None)]
    if validation_split:
        border = round(100 * (1 - validation_split))
        if not 0 < border < 100:
            raise InvalidValueError(
                f"validation_split {validation_split:g} is not between 0.01 and 0.99; '{training}' is split in whole "
                "percent."
            )
        chosen = [f"{training}[:{border}%]", f"{training}[{border}%:]"]
        logger.info(
            "'%s': the last %d %% of the split '%s' are used for validation, regardless of classes and seed.",
            *(name, 100 - border, training),
        )
    splits = (each and builder.as_dataset(split=each, as_supervised=True, shuffle_files=False) for each in chosen)
    return open_datasets(tuple(splits), builder.info.features["label"].names)


def _split(dataset: tf.data.Dataset, num_classes: int) -> DatasetSplit:
    if not isinstance(dataset, tf.data.Dataset):
        raise InvalidValueError(f"Expected a folder or a tf.data.Dataset, got {type(dataset).__name__}.")
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or any(each.shape.rank is None for each in spec):
        raise InvalidValueError(
            f"Elements {spec} are not pairs (image, label) of known rank; map the dataset to such pairs."
        )
    image, label = spec
    if image.dtype != tf.uint8 or image.shape.rank != 3 or image.shape[-1] not in (1, 3):
        raise InvalidValueError(
            f"Images of shape {image.shape} and type {image.dtype.name} are not (height, width, 1 or 3) and uint8; "
            "unbatch or cast them, or set their shape with tf.ensure_shape."
        )
    if label.shape.rank not in (0, 1) or (label.shape.rank == 0 and not label.dtype.is_integer):
        raise InvalidValueError(
            f"Labels of shape {label.shape} and type {label.dtype.name} are neither class numbers nor vectors of 0 and "
            "1; map the dataset to one of them."
        )
    if label.shape.rank == 1 and label.shape[0] not in (None, num_classes):
        raise InvalidValueError(
            f"Labels of {label.shape[0]} entries do not match {num_classes} class names; pass one name for each entry."
        )
    count = int(dataset.cardinality())
    if count <= 0:
        raise InvalidValueError(
            f"The dataset's number of images is unknown (cardinality {count}); call "
            "dataset.apply(tf.data.experimental.assert_cardinality(n)), without repeat()."
        )
    return DatasetSplit(dataset, count, num_classes)
