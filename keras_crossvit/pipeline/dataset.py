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
from typing import Any

import numpy as np
import tensorflow as tf

from keras_crossvit._internal.checks import require_integer, require_rate
from keras_crossvit._internal.errors import InvalidValueError, MissingFileError, listed
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.user_text import one_line, utf_8
from keras_crossvit.pipeline.folders import (
    LabelledFiles,
    Splits,
    files_of_split,
    find_split,
    find_splits,
    ignored_names,
    labelled_files,
    split_names,
)
from keras_crossvit.pipeline.shards import MANIFEST, read_manifest, shard_split
from keras_crossvit.pipeline.split_names import TEST, TRAINING, VALIDATION, refuse_splits_as_classes
from keras_crossvit.pipeline.splits import FileSplit, Split
from keras_crossvit.pipeline.survey import Survey, survey_files
from keras_crossvit.pipeline.tensorflow_datasets import open_datasets, open_tensorflow_dataset, tensorflow_splits

TFDS_PREFIX = "tfds:"
DATASETS = "datasets"  # origin of a tf.data.Dataset
VALIDATION_SPLIT = 0.1  # of data without a validation split
_IGNORED_LISTED = 5
_FOLDERS = {VALIDATION: "val", TEST: "test"}
_VALIDATION_STREAM = 2  # seeds a random stream of its own; see order.py


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images for training and validation, as returned by `open_dataset`.

    Args:
        class_names: Class names, in the order of the labels.
        training: The training images.
        validation: The validation images, or None.
        survey: What was found in the files, or None if the images are not in files of their own.
        validation_split: The fraction of the training split that became the validation images; 0 if the data has a
            validation split, or if there are no validation images.
    """

    class_names: tuple[str, ...]
    training: Split
    validation: Split | None = None
    survey: Survey | None = None
    validation_split: float = 0.0

    def __post_init__(self) -> None:
        # Names of folders may not be UTF-8, but class names are written to files.
        object.__setattr__(self, "class_names", tuple(map(utf_8, self.class_names)))
        refuse_splits_as_classes(self.class_names, "the images")

    @property
    def is_multi_label(self) -> bool:
        """Whether an image can have several classes; its label is then a vector of 0 and 1."""
        return self.training.is_multi_label

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """(path, problem) of files that are left out because they cannot be read; paths are printable, on one line."""
        return [] if self.survey is None else [(one_line(path), why) for path, why in self.survey.unreadable]

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


@known_keywords_only
def open_dataset(
    data: str | PathLike[str] | tf.data.Dataset | tuple[tf.data.Dataset, tf.data.Dataset],
    *,
    validation_split: float | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    max_unreadable: int = 0,
    follow_links: bool = False,
    split: str | None = None,
) -> ImageDataset:
    """Opens labelled images, and checks that every file is readable.

    Args:
        data: One of:

            - a folder with `train/<class>/...`, and if you have them `val/<class>/...` and `test/<class>/...`, or only
              with `<class>/...`; the splits' folders may have any usual name, and images may be in subfolders of their
              class's folder,
            - the same with a table instead of class folders: `labels.csv` with the columns `file` and `label`, or, for
              multi-label images, with a column of 0 and 1 for each class; or `metadata.csv` or `metadata.jsonl` with
              `file_name` and `label`,
            - ImageNet as Kaggle or `train/<identifier>` and `val/<identifier>` have it,
            - a folder of shards, written by `prepare`,
            - "tfds:NAME", a data set of TensorFlow Datasets (extra `tfds`),
            - a `tf.data.Dataset` of (image, label), or a pair of them for training and validation, such as those of
              `keras.utils.image_dataset_from_directory`. Images are uint8 or floats of 0 to 255, of shape (height,
              width, 1 or 3) or batches of them; labels are class numbers, or vectors of 0 and 1.
        validation_split: Fraction of each class to use for validation; 0 uses none. For "tfds:NAME" the last images of
            the training split, in whole percent and regardless of classes. Defaults to None: a tenth, unless the data
            has a validation split. Shards and a `tf.data.Dataset` are used as they are.
        class_names: Class names of a `tf.data.Dataset`. Defaults to None: its own, if
            `image_dataset_from_directory` made it.
        seed: Determines which images `validation_split` takes. Defaults to 0.
        max_unreadable: Number of unreadable files to tolerate; they are left out. Defaults to 0.
        follow_links: Whether to read files outside of the folder that symbolic links in it lead to. Such links are
            otherwise unreadable files. Defaults to False.
        split: Opens only this split, "validation" or "test", as the training split of the result; some classes may be
            empty. Defaults to None: training and validation. A test split is not opened.

    Returns:
        The images and class names.

    Raises:
        TypeError: `data` is of another type, such as a pair of folders.
        ValueError: there are no images, too many are unreadable, `validation_split` is too small for any image, there
            is no such split, or an argument does not apply to this kind of data.
        FileNotFoundError: the folder does not exist.
        ModuleNotFoundError: TensorFlow Datasets is not installed.
    """
    require_integer("max_unreadable", max_unreadable, minimum=0)
    require_integer("seed", seed, minimum=0)
    if validation_split is not None:
        require_rate("validation_split", validation_split)
    if split is not None and split not in (VALIDATION, TEST):
        raise InvalidValueError(f"split {split!r} is unknown; use '{VALIDATION}' or '{TEST}'.")
    if not isinstance(data, (str, PathLike)):
        _refuse_validation_split(validation_split, "pass a pair of datasets instead")
        return _only(split, ImageDataset(*open_datasets(data, class_names)), "The datasets")
    if class_names is not None:
        raise InvalidValueError(f"class_names cannot be changed for '{data}', which has its own; leave them out.")
    if isinstance(data, str) and data.startswith(TFDS_PREFIX):
        fraction = VALIDATION_SPLIT if validation_split is None else validation_split
        name = data.removeprefix(TFDS_PREFIX)
        dataset = ImageDataset(
            *open_tensorflow_dataset(name, fraction, has_default=validation_split is None, test=split == TEST)
        )
        return dataset if split == TEST else _only(split, dataset, f"'{data}'")
    root = require_folder(data)
    if (root / MANIFEST).is_file():
        _refuse_validation_split(validation_split, "shards are split when they are prepared")
        manifest = read_manifest(root)
        has_validation = VALIDATION in manifest.splits
        validation = shard_split(root, manifest, VALIDATION) if has_validation else None
        dataset = ImageDataset(manifest.class_names, shard_split(root, manifest, TRAINING), validation)
        return _only(split, dataset, f"'{root}'")
    within = None if follow_links else root
    folder = find_split(root, split) if split is not None and not validation_split else None
    splits = find_splits(root) if folder is None else Splits(folder)
    files = labelled_files(splits, within)
    is_taken_from_training = split == VALIDATION and bool(validation_split)
    if folder is None and split is not None and not is_taken_from_training:
        if not (own := {VALIDATION: files.validation, TEST: files.test}[split])[0]:
            raise InvalidValueError(f"'{root}' has no {split} split; add a folder '{_FOLDERS[split]}'.")
        splits = Splits(splits.training)
        files = LabelledFiles(files.class_names, own, *[([], own[1][:0])] * 2)
    opened = _open_folder(root, splits, files, within, validation_split, seed, max_unreadable, split)
    return _only(split, opened, f"'{root}'") if is_taken_from_training else opened


def available_splits(data: Any, *, follow_links: bool = False) -> list[str]:
    """Returns which of "training", "validation" and "test" some data has, as `open_dataset` takes it."""
    if not isinstance(data, (str, PathLike)):
        is_pair = isinstance(data, (tuple, list)) and len(data) == 2 and data[1] is not None
        return [TRAINING, VALIDATION] if is_pair else [TRAINING]
    if isinstance(data, str) and data.startswith(TFDS_PREFIX):
        return list(tensorflow_splits(data.removeprefix(TFDS_PREFIX)))
    root = require_folder(data)
    if (root / MANIFEST).is_file():
        return list(read_manifest(root).splits)
    return split_names(root, None if follow_links else root)


def require_folder(data: str | PathLike[str]) -> Path:
    """Returns the path of a folder of images, or raises FileNotFoundError if it does not exist."""
    folder = Path(data)
    if not folder.is_dir():
        raise MissingFileError(f"'{folder}' is not a folder; pass one that has a folder of images for each class.")
    return folder


def survey_folder(folder: str | PathLike[str], *, follow_links: bool = False) -> Survey:
    """Checks every image file of a folder, as `open_dataset` does, and returns what was found."""
    root = require_folder(folder)
    within = None if follow_links else root
    splits = find_splits(root)
    files = labelled_files(splits, within)
    test = files.test[0] if splits.test is None else files_of_split(splits.test, within)
    return survey_files(root, [*files.training[0], *files.validation[0], *test], within)


def origin_of(data: object) -> str:
    """Returns the absolute path of a folder, "tfds:NAME", or "datasets", to recognize the same data again."""
    if isinstance(data, str) and data.startswith(TFDS_PREFIX):
        return data
    return str(Path(data).resolve()) if isinstance(data, (str, PathLike)) else DATASETS


def stratified_split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of training and validation images: a fraction of each class, but never all of it."""
    random = np.random.RandomState([_VALIDATION_STREAM, seed])
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
    if validation_split:
        raise InvalidValueError(f"validation_split {validation_split:g} does not apply: {reason}.")


def _only(split: str | None, dataset: ImageDataset, name: str) -> ImageDataset:
    """Returns a dataset, or one of its splits as the training split."""
    if split is None:
        return dataset
    if split == TEST or dataset.validation is None:
        raise InvalidValueError(f"{name} has no {split} split; pass data that has one.")
    return dataclasses.replace(dataset, training=dataset.validation, validation=None)


def _open_folder(
    root: Path,
    splits: Splits,
    files: LabelledFiles,
    within: Path | None,
    validation_split: float | None,
    seed: int,
    max_unreadable: int,
    split: str | None,
) -> ImageDataset:
    class_names, training_files, validation_files, test_files = files
    has_validation = splits.validation is not None or bool(validation_files[0])
    if has_validation:
        _refuse_validation_split(validation_split, "there is a validation split already; leave it out")
    survey = survey_files(root, [*training_files[0], *validation_files[0]], within)
    logger.info("%s", survey)
    survey.require_readable(max_unreadable)
    labels, border = np.concatenate([training_files[1], validation_files[1]]), len(training_files[0])
    training = _readable(survey, labels, range(border))
    validation = _readable(survey, labels, range(border, len(labels)))
    if not len(training):
        raise InvalidValueError(f"'{splits.training}' has no readable image; add some, or pass another folder.")
    for label, name in enumerate(class_names):
        is_of_class = training.labels[:, label] if training.is_multi_label else training.labels == label
        if split is None and not is_of_class.any():
            raise InvalidValueError(
                f"Class '{name}' has no readable image in '{splits.training}'; add some, or remove the class."
            )
    fraction = validation_split or 0.0
    if validation_split is None and split is None and not has_validation:
        fraction = VALIDATION_SPLIT
    if fraction:
        # A fraction of each class is not possible for multi-label images, which are split as if they were one class.
        classes = np.zeros(len(training), int) if training.is_multi_label else training.labels
        if validation_split is None and round(fraction * int(np.bincount(classes).max())) == 0:
            fraction = 0.0  # too few images to hold any out unasked
        else:
            training, validation = map(training.take, stratified_split(classes, fraction, seed))
    dataset = ImageDataset(tuple(class_names), training, validation if len(validation) else None, survey, fraction)
    if split is None:
        test = test_files[0] if splits.test is None else files_of_split(splits.test, within)
        _log_splits(root, splits, dataset, test)
        ignored = ignored_names(root, splits, [*training_files[0], *validation_files[0], *test], within)
        if ignored:
            logger.info("ignored: %s", listed([f"'{name}'" for name in ignored], _IGNORED_LISTED))
    return dataset


def _log_splits(root: Path, splits: Splits, dataset: ImageDataset, test: Sequence[str]) -> None:
    where = f"'{splits.training}'"
    logger.info("training: %d images of %d classes in %s", len(dataset.training), len(dataset.class_names), where)
    if dataset.validation is None:
        logger.info("validation: none")
    elif dataset.validation_split:
        of_what = "all" if dataset.is_multi_label else "each class"
        logger.info(
            "validation: %d images, %g %% of %s in %s",
            len(dataset.validation),
            100 * dataset.validation_split,
            of_what,
            where,
        )
    else:
        logger.info("validation: %d images in '%s'", len(dataset.validation), splits.validation or splits.training)
    if test or splits.test is not None:
        logger.info("test: %d files in '%s', used only by evaluate", len(test), splits.test or splits.training)


def _readable(survey: Survey, labels: np.ndarray, indices: range) -> FileSplit:
    kept = [i for i in indices if not survey.checks[i].problem]
    columns = ([getattr(survey.checks[i], name) for i in kept] for name in ("height", "width", "decoder"))
    return FileSplit(
        tuple(survey.files[i] for i in kept), labels[kept], *(np.array(column, "int32") for column in columns)
    )
