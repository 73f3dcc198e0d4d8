"""Where pictures come from: folders, shards, TensorFlow Datasets, any tf.data.Dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit.checks import require_integer, require_rate
from keras_crossvit.pipeline.folders import class_folders, find_splits, list_files, stratified_split
from keras_crossvit.pipeline.shards import MANIFEST, read_manifest, shard_split
from keras_crossvit.pipeline.splits import DatasetSplit, FileSplit, ShardSplit
from keras_crossvit.pipeline.survey import Survey, survey_files

TFDS_PREFIX = "tfds:"
Split = FileSplit | ShardSplit | DatasetSplit


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
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


def open_source(
    data: str | PathLike | Any,
    *,
    validation_split: float | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    unreadable_limit: int = 0,
    report: Callable[[str], None] | None = print,
) -> Source:
    """Finds the pictures, and looks into every file before the first step.

    Args:
        data: One of these:
            a folder with `train/<class>/...` and `val/<class>/...`, or with `<class>/...` alone; pictures may lie any
            number of folders deep in their class's;
            a folder of shards, as `keras-crossvit prepare` writes them;
            "tfds:NAME", a data set of TensorFlow Datasets (extra `tfds`);
            a `tf.data.Dataset` of (image, label), or a pair of two for training and validation: images of shape
            (height, width, 1 or 3), uint8, unbatched, each with a class number or a vector of 0 and 1.
        validation_split: Share of each class that is held out where there is no folder `val`. Defaults to None: none.
        class_names: Names of the classes of a `tf.data.Dataset`. Defaults to None.
        seed: Fixes what is held out. Defaults to 0.
        unreadable_limit: How many files may be unreadable; training goes on without them. Defaults to 0: the first
            stops it, and all are listed.
        report: Takes what the survey of the files found. Defaults to `print`; None for silence.

    Returns:
        The pictures of both splits and the names of their classes.

    Raises:
        ValueError: there are no pictures, too many cannot be read, or the arguments do not fit what is there.
        FileNotFoundError: there is no such folder.
        ModuleNotFoundError: TensorFlow Datasets is asked for and not installed.
    """
    require_integer("unreadable_limit", unreadable_limit, minimum=0)
    require_integer("seed", seed, minimum=0)
    if validation_split is not None:
        require_rate("validation_split", validation_split)
    if isinstance(data, str) and data.startswith(TFDS_PREFIX):
        from keras_crossvit.pipeline.datasets import open_tensorflow_dataset

        return Source(*open_tensorflow_dataset(data.removeprefix(TFDS_PREFIX), validation_split))
    if not isinstance(data, (str, PathLike)):
        from keras_crossvit.pipeline.datasets import open_datasets

        _refuse_split(validation_split, "a tf.data.Dataset is taken as it is")
        return Source(*open_datasets(data, class_names))
    if class_names is not None:
        raise ValueError(f"class_names are those of the folders in '{data}'; leave them out.")
    root = Path(data)
    if not root.is_dir():
        raise FileNotFoundError(f"'{root}' is no folder; give one that holds a folder of pictures for each class.")
    if (root / MANIFEST).is_file():
        _refuse_split(validation_split, "shards are split when they are prepared")
        manifest = read_manifest(root)
        return Source(manifest.class_names, *(shard_split(root, manifest, name) for name in ("training", "validation")))
    return _open_folder(root, validation_split, seed, unreadable_limit, report)


def survey_folder(root: Path, *, report: Callable[[str], None] | None = None) -> Survey:
    """Looks into every file of a folder that `open_source` takes, and raises nothing for what it finds in them."""
    training, validation = find_splits(root)
    classes = class_folders(training)
    paths = list_files(training, classes)[0] + (list_files(validation, classes)[0] if validation else [])
    return survey_files(root, paths, report=report)


def _refuse_split(validation_split: float | None, reason: str) -> None:
    if validation_split is not None:
        raise ValueError(f"validation_split {validation_split:g} has no use here: {reason}; leave it out.")


def _open_folder(
    root: Path, validation_split: float | None, seed: int, limit: int, report: Callable[[str], None] | None
) -> Source:
    training, validation = find_splits(root)
    if validation is not None:
        _refuse_split(validation_split, f"there is '{validation}'")
    classes = class_folders(training)
    learnt = list_files(training, classes)
    held_out = _validation_files(validation, classes) if validation else ([], np.zeros(0, "int32"))
    survey = survey_files(root, [*learnt[0], *held_out[0]], report=report)
    if report:
        report(str(survey))
    survey.require_readable(limit)
    labels, border = np.concatenate([learnt[1], held_out[1]]), len(learnt[0])
    first, second = (_readable(survey, labels, *part) for part in ((0, border), (border, len(labels))))
    for label, name in enumerate(classes):
        if not (first.labels == label).any():
            raise ValueError(f"class '{name}' has no readable picture in '{training}'; add some, or remove its folder.")
    if validation_split:
        first, second = map(first.take, stratified_split(first.labels, validation_split, seed))
    return Source(tuple(classes), first, second if len(second) else None, survey)


def _validation_files(folder: Path, classes: list[str]) -> tuple[list[str], np.ndarray]:
    unknown = sorted(set(class_folders(folder)) - set(classes))
    if unknown:
        raise ValueError(f"'{folder / unknown[0]}' is of a class without training pictures; add some, or remove it.")
    return list_files(folder, classes)


def _readable(survey: Survey, labels: np.ndarray, start: int, stop: int) -> FileSplit:
    """The readable files among those at `start` to `stop`."""
    kept = [i for i in range(start, stop) if not survey.examined[i].problem]
    columns = ([getattr(survey.examined[i], name) for i in kept] for name in ("height", "width", "road"))
    return FileSplit(
        tuple(survey.paths[i] for i in kept), labels[kept], *(np.array(column, "int32") for column in columns)
    )
