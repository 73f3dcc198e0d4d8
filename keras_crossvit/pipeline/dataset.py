"""Where pictures come from: folders, shards, TensorFlow Datasets, any tf.data.Dataset."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit._internal.checks import require_integer, require_rate
from keras_crossvit._internal.errors import InvalidValueError, MissingFileError
from keras_crossvit._internal.files import printable
from keras_crossvit.pipeline.folders import (
    Splits,
    class_folders,
    find_splits,
    find_validation_split,
    list_files,
    stratified_split,
)
from keras_crossvit.pipeline.label_table import LABEL_TABLE, read_label_table, reorder_columns
from keras_crossvit.pipeline.shards import MANIFEST, read_manifest, shard_split
from keras_crossvit.pipeline.split_names import TEST, TRAINING, VALIDATION, refuse_splits_as_classes
from keras_crossvit.pipeline.splits import DatasetSplit, FileSplit, ShardSplit
from keras_crossvit.pipeline.survey import Survey, survey_files

TFDS_PREFIX = "tfds:"
_LEFT = "is left for evaluate; nothing is trained on it"
Split = FileSplit | ShardSplit | DatasetSplit
_Labelled = tuple[list[str], np.ndarray]  # paths and labels


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """Pictures to train on.

    Args:
        class_names: Names of the classes, in the order of the labels.
        training: The pictures to learn from.
        validation: Those held out, or None.
        survey: What the files were found to be, or None where there are none to look at.
    """

    class_names: tuple[str, ...]
    training: Split
    validation: Split | None = None
    survey: Survey | None = None

    def __post_init__(self) -> None:
        """Makes names of classes text that every file can hold: names of folders need not be UTF-8."""
        object.__setattr__(self, "class_names", tuple(map(printable, self.class_names)))
        refuse_splits_as_classes(self.class_names, "the images")

    @property
    def has_vectors(self) -> bool:
        """Whether a picture may be of several classes, its label being a vector of 0 and 1."""
        return self.training.has_vectors

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """(path, problem) of the files that are left out, since they cannot be read; paths fit to be printed."""
        return [] if self.survey is None else [(printable(path), why) for path, why in self.survey.unreadable]

    def fingerprint(self) -> str:
        """SHA-256 of the names of files and classes and of the labels; of datasets nothing but numbers is known.

        Names are taken from where they differ, so a collection may lie elsewhere.
        """
        splits = [split for split in (self.training, self.validation) if split is not None]
        names = [name for split in splits for name in split.files]
        common = len(os.path.commonprefix(names))  # noqa: RUF071 by characters, which a million names bear
        digest = hashlib.sha256(json.dumps([self.class_names, [len(split) for split in splits]]).encode())
        for split in splits:
            digest.update(os.fsencode("\0".join(name[common:] for name in split.files)))
            if split.labels is not None:
                digest.update(split.labels.astype("int32").tobytes())
        return digest.hexdigest()


def open_dataset(
    data: str | PathLike | Any,
    *,
    validation_split: float | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    max_unreadable: int = 0,
    validation_only: bool = False,
    report: Callable[[str], None] | None = print,
) -> ImageDataset:
    """Finds the pictures, and looks into every file before the first step.

    Args:
        data: One of these:
            a folder with `train/<class>/...` and `val/<class>/...`, or with `<class>/...` alone; pictures may lie any
            number of folders deep in their class's;
            the same without folders for classes, where `labels.csv` in their place names the files and has a column of
            0 and 1 for each class: pictures may then be of several classes;
            a folder of shards, as `keras-crossvit prepare` writes them;
            "tfds:NAME", a data set of TensorFlow Datasets (extra `tfds`);
            a `tf.data.Dataset` of (image, label), or a pair of two for training and validation: images of shape
            (height, width, 1 or 3), uint8, unbatched, each with a class number or a vector of 0 and 1.
        validation_split: Share of each class that is held out where there is no folder `val`; of "tfds:NAME" the last
            pictures of its split "train", to whole percents, whatever their classes. Defaults to None: none.
        class_names: Names of the classes of a `tf.data.Dataset`. Defaults to None.
        seed: Fixes what is held out of a folder. Defaults to 0.
        max_unreadable: How many files may be unreadable; training goes on without them. Defaults to 0: the first
            stops it, and all are listed.
        validation_only: Whether nothing but the pictures in `val` is looked at, where there is such a folder and no
            `validation_split`; they are then the only split, and some classes may have none. Defaults to False.
        report: Takes what the survey of the files found. Defaults to `print`; None for silence.

    Returns:
        The pictures of both splits and the names of their classes.

    Raises:
        ValueError: there are no pictures, too many cannot be read, `validation_split` holds nothing out, or the
            arguments do not fit what is there.
        FileNotFoundError: there is no such folder.
        ModuleNotFoundError: TensorFlow Datasets is asked for and not installed.
    """
    require_integer("max_unreadable", max_unreadable, minimum=0)
    require_integer("seed", seed, minimum=0)
    if validation_split is not None:
        require_rate("validation_split", validation_split)
    if isinstance(data, str) and data.startswith(TFDS_PREFIX):
        from keras_crossvit.pipeline.tensorflow_datasets import open_tensorflow_dataset

        if class_names is not None:
            raise InvalidValueError(f"class_names are those of '{data}' itself; leave them out.")
        return ImageDataset(*open_tensorflow_dataset(data.removeprefix(TFDS_PREFIX), validation_split, report=report))
    if not isinstance(data, (str, PathLike)):
        from keras_crossvit.pipeline.tensorflow_datasets import open_datasets

        _refuse_split(validation_split, "a tf.data.Dataset is taken as it is")
        return ImageDataset(*open_datasets(data, class_names))
    if class_names is not None:
        raise InvalidValueError(f"class_names are those of the folders in '{data}'; leave them out.")
    root = Path(data)
    if not root.is_dir():
        raise MissingFileError(f"'{root}' is no folder; give one that holds a folder of pictures for each class.")
    if (root / MANIFEST).is_file():
        _refuse_split(validation_split, "shards are split when they are prepared")
        manifest = read_manifest(root)
        return ImageDataset(
            manifest.class_names, *(shard_split(root, manifest, name) for name in ("training", "validation"))
        )
    if validation_only and validation_split is None:
        validation_files = find_validation_split(root)
        root, folders = (validation_files, Splits(validation_files)) if validation_files else (root, find_splits(root))
        return _open_folder(root, folders, None, seed, max_unreadable, report, every_class=False)
    return _open_folder(root, find_splits(root), validation_split, seed, max_unreadable, report)


def survey_folder(root: Path, *, report: Callable[[str], None] | None = None) -> Survey:
    """Looks into every file of a folder that `open_dataset` takes, and raises nothing for what it finds in them."""
    _, training_files, validation_files = _labelled_files(find_splits(root), report)
    return survey_files(root, [*training_files[0], *validation_files[0]], report=report)


def _refuse_split(validation_split: float | None, reason: str) -> None:
    if validation_split is not None:
        raise InvalidValueError(f"validation_split {validation_split:g} has no use here: {reason}; leave it out.")


def _open_folder(
    root: Path,
    folders: Splits,
    validation_split: float | None,
    seed: int,
    limit: int,
    report: Callable[[str], None] | None,
    *,
    every_class: bool = True,
) -> ImageDataset:
    training, validation, _ = folders
    if validation is not None:
        _refuse_split(validation_split, f"there is '{validation}'")
    class_names, training_files, validation_files = _labelled_files(folders, report)
    if len(validation_files[0]):
        _refuse_split(validation_split, "there is a validation split")
    survey = survey_files(root, [*training_files[0], *validation_files[0]], report=report)
    if report:
        report(str(survey))
    survey.require_readable(limit)
    labels, border = np.concatenate([training_files[1], validation_files[1]]), len(training_files[0])
    first, second = (_readable(survey, labels, *part) for part in ((0, border), (border, len(labels))))
    if not len(first):
        raise InvalidValueError(f"'{training}' holds no readable picture; add some, or name another folder.")
    for label, name in enumerate(class_names):
        if every_class and not (first.labels[:, label] if first.has_vectors else first.labels == label).any():
            raise InvalidValueError(
                f"class '{name}' has no readable picture in '{training}'; add some, or remove the class."
            )
    if validation_split:
        # Of several classes, no share of each can be held out: all are split together.
        alike = np.zeros(len(first), int) if first.has_vectors else first.labels
        first, second = map(first.take, stratified_split(alike, validation_split, seed))
    return ImageDataset(tuple(class_names), first, second if len(second) else None, survey)


def _labelled_files(folders: Splits, report: Callable[[str], None] | None) -> tuple[list[str], _Labelled, _Labelled]:
    """Classes, and the files of training and validation with their labels."""
    training, validation, test = folders
    if report and test is not None:
        report(f"'{test}' {_LEFT}")
    if (training / LABEL_TABLE).is_file():
        table = read_label_table(training)
        validation_files: Any = ([], np.zeros((0, len(table.class_names)), "int32"))
        if validation is not None:
            other = read_label_table(validation)
            validation_files = (
                other.paths,
                reorder_columns(other.labels, other.class_names, table.class_names, validation / LABEL_TABLE),
            )
        if table.splits is None:
            return table.class_names, (table.paths, table.labels), validation_files
        if validation is not None:
            raise InvalidValueError(
                f"'{training / LABEL_TABLE}' has a column of splits beside '{validation}'; keep one of both."
            )
        if report and (left := len(table.of_split(TEST)[0])):
            report(f"the test split of '{training / LABEL_TABLE}', {left} images, {_LEFT}")
        return table.class_names, table.of_split(TRAINING), table.of_split(VALIDATION)
    class_names = class_folders(training)
    nothing = ([], np.zeros(0, "int32"))
    return (
        class_names,
        list_files(training, class_names),
        _validation_files(validation, class_names) if validation else nothing,
    )


def _validation_files(folder: Path, class_names: list[str]) -> _Labelled:
    unknown = sorted(set(class_folders(folder)) - set(class_names))
    if unknown:
        raise InvalidValueError(
            f"'{folder / unknown[0]}' is of a class without training pictures; add some, or remove it."
        )
    return list_files(folder, class_names)


def _readable(survey: Survey, labels: np.ndarray, start: int, stop: int) -> FileSplit:
    """The readable files among those at `start` to `stop`."""
    kept = [i for i in range(start, stop) if not survey.examined[i].problem]
    columns = ([getattr(survey.examined[i], name) for i in kept] for name in ("height", "width", "decoder"))
    return FileSplit(
        tuple(survey.paths[i] for i in kept), labels[kept], *(np.array(column, "int32") for column in columns)
    )


def origin_of(data: Any) -> str:
    """Where the pictures come from, the same from wherever it is asked for."""
    if isinstance(data, str) and data.startswith(TFDS_PREFIX):
        return data
    return str(Path(data).resolve()) if isinstance(data, (str, PathLike)) else "datasets"
