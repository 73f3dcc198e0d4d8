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
    """The contents of a label table.

    Args:
        class_names: Class names.
        files: Paths of the files.
        labels: Shape (files, classes), int32, 0 and 1.
        splits: Split of each file, or None if the table has no such column.
    """

    class_names: list[str]
    files: list[str]
    labels: np.ndarray
    splits: list[str] | None = None

    def of_split(self, split: str) -> tuple[list[str], np.ndarray]:
        """Returns files and labels of a split, for a table with a column of splits."""
        rows = [i for i, each in enumerate(self.splits or ()) if each == split]
        return [self.files[i] for i in rows], self.labels[rows]

    def labels_in_order(self, class_names: list[str], table: Path) -> np.ndarray:
        """Returns the labels with the columns in the order of another table's classes.

        Raises:
            ValueError: the classes are not the same.
        """
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
        FileNotFoundError: there is no such table.
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
    splits, column = None, _split_column(header, lines)
    if column is not None:
        splits = [_split(row, column, where) for where, row in lines]
        del header[column]
        lines = [(where, row[:column] + row[column + 1 :]) for where, row in lines]
    class_names = header[1:]
    if not class_names or len(set(class_names)) < len(class_names) or "" in class_names:
        raise InvalidValueError(f"'{table}' has no class columns, or an empty or repeated name; name each class once.")
    labels = [_labels(row, class_names, where) for where, row in lines]
    files = [str(inside(folder, row[0], where)) for where, row in lines]
    if not files:
        raise InvalidValueError(f"'{table}' lists no files; add a line for each image.")
    seen: set[str] = set()
    for path in map(os.path.normpath, files):
        if path in seen:
            raise InvalidValueError(f"'{table}' lists '{path}' twice; keep one line for each image.")
        seen.add(path)
    return LabelTable(class_names, files, np.array(labels, "int32").reshape(len(files), len(class_names)), splits)


def _split_column(header: list[str], lines: list[tuple[str, list[str]]]) -> int | None:
    """Returns the column named `split`, unless it holds only 0 and 1 and is therefore a class."""
    column = next((i for i, name in enumerate(header[1:], start=1) if name.lower() == _SPLIT), None)
    if column is None or all(row[column : column + 1] and row[column].strip() in _VALUES for _, row in lines):
        return None
    return column


def _split(row: list[str], column: int, where: str) -> str:
    name = "".join(row[column : column + 1]).strip()
    kind = split_kinds([name]).get(name)
    if kind is None:
        raise InvalidValueError(f"{where}: {name!r} is not the name of a split; use 'train', 'val' or 'test'.")
    return kind if kind in (TRAINING, TEST) else VALIDATION


def _labels(row: list[str], class_names: list[str], where: str) -> list[int]:
    if len(row) != 1 + len(class_names):
        raise InvalidValueError(
            f"{where} has {len(row)} entries for a file and {len(class_names)} classes; give each class a 0 or 1."
        )
    values = [value.strip() for value in row[1:]]
    if wrong := [value for value in values if value not in _VALUES]:
        raise InvalidValueError(f"{where}: {wrong[0]!r} is neither 0 nor 1; give each class a 0 or 1.")
    return [_VALUES[value] for value in values]
