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
from keras_crossvit.pipeline.splits import FileSplit
from keras_crossvit.pipeline.survey import Survey, survey_files


@dataclasses.dataclass(frozen=True)
class Source:
    """Pictures to train on.

    Args:
        class_names: Names of the classes, in the order of the labels.
        training: The pictures to learn from.
        validation: Those held out, or None.
        survey: What the files were found to be, or None where there are none to look at.
    """

    class_names: tuple[str, ...]
    training: Any
    validation: Any = None
    survey: Survey | None = None


def open_source(
    data: Any,
    *,
    validation_split: float | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    unreadable_limit: int = 0,
    report: Callable[[str], None] | None = print,
) -> Source:
    """Finds the pictures, and looks into every file before the first step."""
    require_integer("unreadable_limit", unreadable_limit, minimum=0)
    require_integer("seed", seed, minimum=0)
    if validation_split is not None:
        require_rate("validation_split", validation_split)
    return _open_folder(Path(data), validation_split, seed, unreadable_limit, report)


def _open_folder(
    root: Path, validation_split: float | None, seed: int, limit: int, report: Callable[[str], None] | None
) -> Source:
    if not root.is_dir():
        raise FileNotFoundError(f"'{root}' is no folder; give one that holds a folder of pictures for each class.")
    training, validation = find_splits(root)
    if validation is not None and validation_split is not None:
        raise ValueError(f"'{validation}' is there, so validation_split {validation_split:g} has no use; leave it out.")
    classes = class_folders(training)
    learnt = list_files(training, classes)
    held_out = _validation_files(validation, classes) if validation else ([], np.zeros(0, "int32"))
    survey = survey_files(root, [*learnt[0], *held_out[0]], report=report)
    if report:
        report(str(survey))
    survey.require_readable(limit)
    split = _readable(survey, np.concatenate([learnt[1], held_out[1]]))
    first, second = split(0, len(learnt[0])), split(len(learnt[0]), len(survey.paths))
    for label, name in enumerate(classes):
        if not (first.labels == label).any():
            raise ValueError(f"class '{name}' has no readable picture in '{training}'; add some, or remove its folder.")
    if validation_split:
        places = stratified_split(first.labels, validation_split, seed)
        first, second = (_take(first, chosen) for chosen in places)
    return Source(tuple(classes), first, second if len(second) else None, survey)


def _validation_files(folder: Path, classes: list[str]) -> tuple[list[str], np.ndarray]:
    unknown = sorted(set(class_folders(folder)) - set(classes))
    if unknown:
        raise ValueError(
            f"'{folder / unknown[0]}' is of a class that has no training pictures; add some, or remove it."
        )
    return list_files(folder, classes)


def _readable(survey: Survey, labels: np.ndarray) -> Callable[[int, int], FileSplit]:
    def split(start: int, stop: int) -> FileSplit:
        kept = [i for i in range(start, stop) if not survey.examined[i].problem]
        columns = [[getattr(survey.examined[i], name) for i in kept] for name in ("height", "width", "road")]
        return FileSplit(
            tuple(survey.paths[i] for i in kept), labels[kept], *(np.array(column, "int32") for column in columns)
        )

    return split


def _take(split: FileSplit, places: np.ndarray) -> FileSplit:
    return FileSplit(
        tuple(split.paths[i] for i in places),
        split.labels[places],
        split.heights[places],
        split.widths[places],
        split.roads[places],
    )
