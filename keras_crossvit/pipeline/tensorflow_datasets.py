"""Pictures of a tf.data.Dataset, one's own or one of TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.optional import require_library
from keras_crossvit.pipeline.split_names import EVALUATION, TEST, TRAINING, VALIDATION, split_kinds
from keras_crossvit.pipeline.splits import DatasetSplit

_HELD_OUT = (VALIDATION, EVALUATION, TEST)  # splits in TensorFlow Datasets, the better first


def open_datasets(
    data: Any, class_names: Sequence[str] | None
) -> tuple[tuple[str, ...], DatasetSplit, DatasetSplit | None]:
    """Class names and splits of a dataset, or of a pair of datasets for training and validation.

    Raises:
        ValueError: it is no dataset of single uint8 images and labels of known number, or has no class names.
    """
    training, validation = data if isinstance(data, (tuple, list)) and len(data) == 2 else (data, None)
    if not class_names:
        raise InvalidValueError(
            "a tf.data.Dataset has no class names; give class_names=[...] in the order of its labels."
        )
    splits = [None if each is None else _split(each, len(class_names)) for each in (training, validation)]
    return tuple(map(str, class_names)), *splits


def open_tensorflow_dataset(
    name: str, validation_split: float | None, *, report: Callable[[str], None] | None = None
) -> tuple[tuple[str, ...], DatasetSplit, DatasetSplit | None]:
    """Class names and splits of a data set of TensorFlow Datasets; its download is that library's own.

    Args:
        name: As its catalogue has it.
        validation_split: Share to hold out of its split "train", to whole percents: the last ones of its own order,
            whatever their classes. None: its split "validation" or "test".
        report: Takes a line that says so. Defaults to None: silence.

    Raises:
        ValueError: there is no such data set, or the share is less than half a percent or more than 99.5.
    """
    library = require_library("tensorflow_datasets", "tfds")
    try:
        builder = library.builder(name)
    except ValueError as error:  # of many lines, all names included
        raise InvalidValueError(
            f"TensorFlow Datasets has no data set '{name}'; look it up in its catalogue."
        ) from error
    builder.download_and_prepare()
    names = {kind: split for split, kind in reversed(split_kinds(builder.info.splits).items())}
    if TRAINING not in names:
        raise InvalidValueError(
            f"'{name}' has no training split, but {', '.join(builder.info.splits)}; use another data set."
        )
    training = names[TRAINING]
    wanted = [training, next((names[kind] for kind in _HELD_OUT if kind in names), None)]
    if validation_split:
        border = round(100 * (1 - validation_split))
        if not 0 < border < 100:
            raise InvalidValueError(
                f"validation_split {validation_split:g} is none of 0.01 to 0.99, to which whole percents of the "
                f"split '{training}' are held out; use one of these."
            )
        wanted = [f"{training}[:{border}%]", f"{training}[{border}%:]"]
        if report:
            report(
                f"'{name}': held out are the last {100 - border} % of the split '{training}' in its own order, "
                "neither by class nor by the seed"
            )
    splits = (each and builder.as_dataset(split=each, as_supervised=True, shuffle_files=False) for each in wanted)
    return open_datasets(tuple(splits), builder.info.features["label"].names)


def _split(dataset: Any, num_classes: int) -> DatasetSplit:
    if not isinstance(dataset, tf.data.Dataset):
        raise InvalidValueError(
            f"{type(dataset).__name__} is neither a folder nor a tf.data.Dataset; give one of these."
        )
    image, label = _specs(dataset)
    if image.dtype != tf.uint8 or image.shape.rank != 3 or image.shape[-1] not in (1, 3):
        raise InvalidValueError(
            f"images of shape {image.shape} and type {image.dtype.name} are not (height, width, 1 or 3) of uint8; "
            "unbatch them, cast them, or set their shape by tf.ensure_shape."
        )
    if label.shape.rank not in (0, 1) or (label.shape.rank == 0 and not label.dtype.is_integer):
        raise InvalidValueError(
            f"labels of shape {label.shape} and type {label.dtype.name} are neither class numbers nor vectors of 0 and "
            "1; map the dataset to one of these."
        )
    if label.shape.rank == 1 and label.shape[0] not in (None, num_classes):
        raise InvalidValueError(
            f"labels of {label.shape[0]} entries do not fit {num_classes} class names; give as many names."
        )
    count = int(dataset.cardinality())
    if count <= 0:
        raise InvalidValueError(
            f"the dataset does not say how many pictures it holds (cardinality {count}); call "
            "dataset.apply(tf.data.experimental.assert_cardinality(n)), without repeat()."
        )
    return DatasetSplit(dataset, count, num_classes)


def _specs(dataset: tf.data.Dataset) -> tuple[tf.TensorSpec, tf.TensorSpec]:
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or any(each.shape.rank is None for each in spec):
        raise InvalidValueError(
            f"elements of {spec} are not pairs (image, label) of known rank; map the dataset to such pairs."
        )
    return spec
