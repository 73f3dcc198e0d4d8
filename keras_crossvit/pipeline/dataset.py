"""Opens images from folders, shards, TensorFlow Datasets or a tf.data.Dataset."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_crossvit._internal.checks import require_integer, require_rate
from keras_crossvit._internal.errors import InvalidValueError, MissingFileError
from keras_crossvit._internal.files import printable
from keras_crossvit._internal.log import logger
from keras_crossvit.pipeline.folders import Splits, find_splits, find_validation_split, labelled_files
from keras_crossvit.pipeline.shards import MANIFEST, read_manifest, shard_split
from keras_crossvit.pipeline.split_names import refuse_splits_as_classes
from keras_crossvit.pipeline.splits import FileSplit, Split
from keras_crossvit.pipeline.survey import Survey, survey_files
from keras_crossvit.pipeline.tensorflow_datasets import open_datasets, open_tensorflow_dataset

TFDS_PREFIX = "tfds:"
_VALIDATION = 2  # seeds a random stream of its own; see order.py


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images for training and validation, as returned by `open_dataset`.

    Args:
        class_names: Class names, in the order of the labels.
        training: The training images.
        validation: The validation images, or None.
        survey: What was found in the files, or None if the images are not in files of their own.
    """

    class_names: tuple[str, ...]
    training: Split
    validation: Split | None = None
    survey: Survey | None = None

    def __post_init__(self) -> None:
        # Names of folders may not be UTF-8, but class names are written to files.
        object.__setattr__(self, "class_names", tuple(map(printable, self.class_names)))
        refuse_splits_as_classes(self.class_names, "the images")

    @property
    def is_multi_label(self) -> bool:
        """Whether an image can have several classes; its label is then a vector of 0 and 1."""
        return self.training.is_multi_label

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """(path, problem) of files that are left out because they cannot be read; paths are printable."""
        return [] if self.survey is None else [(printable(path), why) for path, why in self.survey.unreadable]

    def fingerprint(self) -> str:
        """Returns a SHA-256 of file names, class names and labels; for a `tf.data.Dataset`, of counts only.

        The common start of the file names is left out, so that the folder may be moved.
        """
        splits = [split for split in (self.training, self.validation) if split is not None]
        names = [name for split in splits for name in split.files]
        common = len(os.path.commonprefix(names))  # noqa: RUF071 by characters is meant, and fast
        digest = hashlib.sha256(json.dumps([self.class_names, [len(split) for split in splits]]).encode())
        for split in splits:
            digest.update(os.fsencode("\0".join(name[common:] for name in split.files)))
            if split.labels is not None:
                digest.update(split.labels.astype("int32").tobytes())
        return digest.hexdigest()


def open_dataset(
    data: str | PathLike[str] | tf.data.Dataset | tuple[tf.data.Dataset, tf.data.Dataset],
    *,
    validation_split: float | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    max_unreadable: int = 0,
    validation_only: bool = False,
) -> ImageDataset:
    """Opens labelled images, and checks that every file is readable.

    Args:
        data: One of:

            - a folder with `train/<class>/...` and `val/<class>/...`, or only with `<class>/...`; images may be in
              subfolders of their class's folder,
            - the same with a file `labels.csv` instead of class folders, for multi-label images: it has a column `file`
              and a column of 0 and 1 for each class,
            - a folder of shards, written by `prepare`,
            - "tfds:NAME", a data set of TensorFlow Datasets (extra `tfds`),
            - a `tf.data.Dataset` of (image, label), not batched, or a pair of them for training and validation; images
              are uint8 of shape (height, width, 1 or 3), labels are class numbers, or vectors of 0 and 1.
        validation_split: Fraction of each class to use for validation, if the folder has no validation split. For
            "tfds:NAME" the last images of the training split, in whole percent and regardless of classes. Defaults to
            None: no validation images.
        class_names: Class names of a `tf.data.Dataset`. Defaults to None.
        seed: Determines which images `validation_split` takes. Defaults to 0.
        max_unreadable: Number of unreadable files to tolerate; they are left out. Defaults to 0.
        validation_only: Whether to open only the validation split of a folder, if it has one and there is no
            `validation_split`; it becomes the training split, and some classes may be empty. Defaults to False.

    Returns:
        The images and class names.

    Raises:
        ValueError: there are no images, too many are unreadable, `validation_split` is too small for any image, or an
            argument does not apply to this kind of data.
        FileNotFoundError: the folder does not exist.
        ModuleNotFoundError: TensorFlow Datasets is not installed.
    """
    require_integer("max_unreadable", max_unreadable, minimum=0)
    require_integer("seed", seed, minimum=0)
    if validation_split is not None:
        require_rate("validation_split", validation_split)
    if not isinstance(data, (str, PathLike)):
        _refuse_validation_split(validation_split, "pass a pair of datasets instead")
        return ImageDataset(*open_datasets(data, class_names))
    if class_names is not None:
        raise InvalidValueError(f"class_names cannot be changed for '{data}', which has its own; leave them out.")
    if isinstance(data, str) and data.startswith(TFDS_PREFIX):
        return ImageDataset(*open_tensorflow_dataset(data.removeprefix(TFDS_PREFIX), validation_split))
    root = require_folder(data)
    if (root / MANIFEST).is_file():
        _refuse_validation_split(validation_split, "shards are split when they are prepared")
        manifest = read_manifest(root)
        has_validation = "validation" in manifest.splits
        validation = shard_split(root, manifest, "validation") if has_validation else None
        return ImageDataset(manifest.class_names, shard_split(root, manifest, "training"), validation)
    only = find_validation_split(root) if validation_only and validation_split is None else None
    splits = find_splits(root) if only is None else Splits(only)
    needs_every_class = not (validation_only and validation_split is None)
    return _open_folder(only or root, splits, validation_split, seed, max_unreadable, needs_every_class)


def require_folder(data: str | PathLike[str]) -> Path:
    """Returns the path of a folder of images, or raises FileNotFoundError if it does not exist."""
    folder = Path(data)
    if not folder.is_dir():
        raise MissingFileError(f"'{folder}' is not a folder; pass one that has a folder of images for each class.")
    return folder


def survey_folder(folder: str | PathLike[str]) -> Survey:
    """Checks every image file of a folder, as `open_dataset` does, and returns what was found."""
    root = require_folder(folder)
    _, (training, _), (validation, _) = labelled_files(find_splits(root))
    return survey_files(root, [*training, *validation])


def origin_of(data: object) -> str:
    """Returns the absolute path of a folder, "tfds:NAME", or "datasets", to recognize the same data again."""
    if isinstance(data, str) and data.startswith(TFDS_PREFIX):
        return data
    return str(Path(data).resolve()) if isinstance(data, (str, PathLike)) else "datasets"


def stratified_split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of training and validation images: a fraction of each class, but never all of it."""
    random = np.random.RandomState([_VALIDATION, seed])
    validation: list[int] = []
    for label in np.unique(labels):
        indices = random.permutation(np.flatnonzero(labels == label))
        validation += indices[: min(round(fraction * len(indices)), len(indices) - 1)].tolist()
    if not validation:
        most = int(np.bincount(labels).max())
        remedy = "each class has only one image. Add some, or add a folder 'val'."
        if most > 1:
            decimals = math.ceil(math.log10(most)) + 1
            enough = (math.floor(10**decimals / 2 / most) + 1) / 10**decimals  # a little more than half an image
            remedy = f"no class has more than {most} images. Use {enough:g} or more, or add a folder 'val'."
        raise InvalidValueError(f"validation_split {fraction:g} is less than one image: {remedy}")
    is_validation = np.zeros(len(labels), bool)
    is_validation[validation] = True
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def _refuse_validation_split(validation_split: float | None, reason: str) -> None:
    if validation_split is not None:
        raise InvalidValueError(f"validation_split {validation_split:g} does not apply: {reason}.")


def _open_folder(
    root: Path, splits: Splits, validation_split: float | None, seed: int, max_unreadable: int, needs_every_class: bool
) -> ImageDataset:
    class_names, training_files, validation_files = labelled_files(splits)
    if splits.validation is not None or validation_files[0]:
        _refuse_validation_split(validation_split, "there is a validation split already; leave it out")
    survey = survey_files(root, [*training_files[0], *validation_files[0]])
    logger.info("%s", survey)
    survey.require_readable(max_unreadable)
    labels, border = np.concatenate([training_files[1], validation_files[1]]), len(training_files[0])
    training = _readable(survey, labels, range(border))
    validation = _readable(survey, labels, range(border, len(labels)))
    if not len(training):
        raise InvalidValueError(f"'{splits.training}' has no readable image; add some, or pass another folder.")
    for label, name in enumerate(class_names):
        is_of_class = training.labels[:, label] if training.is_multi_label else training.labels == label
        if needs_every_class and not is_of_class.any():
            raise InvalidValueError(
                f"Class '{name}' has no readable image in '{splits.training}'; add some, or remove the class."
            )
    if validation_split:
        # A fraction of each class is not possible for multi-label images, which are split as if they were one class.
        classes = np.zeros(len(training), int) if training.is_multi_label else training.labels
        training, validation = map(training.take, stratified_split(classes, validation_split, seed))
    return ImageDataset(tuple(class_names), training, validation if len(validation) else None, survey)


def _readable(survey: Survey, labels: np.ndarray, indices: range) -> FileSplit:
    kept = [i for i in indices if not survey.checks[i].problem]
    columns = ([getattr(survey.checks[i], name) for i in kept] for name in ("height", "width", "decoder"))
    return FileSplit(
        tuple(survey.files[i] for i in kept), labels[kept], *(np.array(column, "int32") for column in columns)
    )
