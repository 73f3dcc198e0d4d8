"""Reads labels.csv files, which assign any number of classes to each image."""

from __future__ import annotations

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.files import inside
from keras_crossvit.pipeline.split_names import TEST, TRAINING, VALIDATION, split_kinds

LABEL_TABLE = "labels.csv"
_FILE, _SPLIT = "file", "split"
_VALUES = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}  # the latter two as written by pandas


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """Files, their labels of shape (files, classes), int32, and their splits if the table has a column of them."""

    class_names: list[str]
    files: list[str]
    labels: np.ndarray
    splits: list[str]

    def of_split(self, split: str) -> tuple[list[str], np.ndarray]:
        """Returns files and labels of a split."""
        rows = [i for i, each in enumerate(self.splits) if each == split]
        return [self.files[i] for i in rows], self.labels[rows]

    def labels_in_order(self, class_names: list[str], table: Path) -> np.ndarray:
        """Returns the labels in the order of another table's classes, or raises ValueError if they are not the same."""
        if differing := sorted(set(self.class_names) ^ set(class_names)):
            raise InvalidValueError(
                f"Class '{differing[0]}' is in only one of '{table}' and the training split's {LABEL_TABLE}; list the "
                "same classes in both."
            )
        return self.labels[:, [self.class_names.index(name) for name in class_names]]


def read_label_table(folder: Path) -> LabelTable:
    """Reads a folder's `labels.csv`: a column `file` with paths relative to the folder, and a column per class.

    Class columns hold 0 and 1. An optional column `split` names the split of each file, in any spelling.

    Raises:
        ValueError: the table has another form or names a file outside the folder; the message has the line.
    """
    table = folder / LABEL_TABLE
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"'{table}' is not UTF-8 ({error.reason}); save it as UTF-8.") from error
    except csv.Error as error:
        raise InvalidValueError(f"'{table}' is not a CSV table ({error}); write it again.") from error
    header = [name.strip() for name in rows[0]] if rows else []
    if len(header) < 2 or header[0] != _FILE:
        raise InvalidValueError(
            f"'{table}' starts with {','.join(header)!r:.200}; its first line must be 'file' and the class names, "
            "separated by commas."
        )
    lines = [(f"'{table}', line {number}", row) for number, row in enumerate(rows[1:], start=2) if row]
    for where, row in lines:
        if len(row) != len(header):
            raise InvalidValueError(
                f"{where} has {len(row)} entries, but there are {len(header)} columns; fill them all."
            )
    split_column = _split_column(header, [row for _, row in lines])
    class_columns = [i for i in range(1, len(header)) if i != split_column]
    class_names = [header[i] for i in class_columns]
    if not class_names or len(set(class_names)) < len(class_names) or "" in class_names:
        raise InvalidValueError(f"'{table}' has no class columns, or an empty or repeated name; name each class once.")
    if not lines:
        raise InvalidValueError(f"'{table}' lists no files; add a line for each image.")
    labels = [[_label(row[i].strip(), where) for i in class_columns] for where, row in lines]
    splits = [] if split_column is None else [_split(row[split_column].strip(), where) for where, row in lines]
    files, seen = [str(inside(folder, row[0], where)) for where, row in lines], set[str]()
    for (where, _), path in zip(lines, map(os.path.normpath, files), strict=True):
        if path in seen:
            raise InvalidValueError(f"{where} lists '{path}' twice; keep one line for each image.")
        seen.add(path)
    return LabelTable(class_names, files, np.array(labels, "int32"), splits)


def _split_column(header: list[str], rows: list[list[str]]) -> int | None:
    """Returns the column named `split`, unless it holds only 0 and 1 and is therefore a class."""
    column = next((i for i, name in enumerate(header[1:], start=1) if name.lower() == _SPLIT), None)
    return None if column is None or all(row[column].strip() in _VALUES for row in rows) else column


def _split(name: str, where: str) -> str:
    kind = split_kinds([name]).get(name)
    if kind is None:
        raise InvalidValueError(f"{where}: {name!r} is not the name of a split; use 'train', 'val' or 'test'.")
    return kind if kind in (TRAINING, TEST) else VALIDATION


def _label(value: str, where: str) -> int:
    if value not in _VALUES:
        raise InvalidValueError(f"{where}: {value!r} is neither 0 nor 1; give each class a 0 or 1.")
    return _VALUES[value]
