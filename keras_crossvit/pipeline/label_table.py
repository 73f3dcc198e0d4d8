"""Pictures of which each may be of several classes: a table that names files and says yes or no to every class."""

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
_YES_OR_NO = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}  # the latter as pandas writes whole columns


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """What a table says of its files.

    Args:
        class_names: Names of the classes.
        paths: The files.
        labels: Shape (files, classes), int32.
        splits: Split of each file, or None where the table has no such column.
    """

    class_names: list[str]
    paths: list[str]
    labels: np.ndarray
    splits: list[str] | None = None

    def of_split(self, split: str) -> tuple[list[str], np.ndarray]:
        """Paths and labels of a split's files, where the table has a column of splits."""
        places = [i for i, each in enumerate(self.splits or ()) if each == split]
        return [self.paths[i] for i in places], self.labels[places]


def read_label_table(folder: Path) -> LabelTable:
    """Reads `labels.csv` of a folder: a column `file` of paths from there, and a column of 0 and 1 per class.

    A column `split` may say of each file whether it is for training, validation or test, in any spelling.

    Args:
        folder: The folder.

    Returns:
        Classes, files, labels and splits.

    Raises:
        ValueError: the table has another form, or names a file outside the folder; the message has the line.
        FileNotFoundError: there is no such table.
    """
    table = folder / LABEL_TABLE
    with table.open(newline="", encoding="utf-8-sig") as file:
        try:
            rows = list(csv.reader(file))
        except UnicodeDecodeError as error:
            raise InvalidValueError(f"'{table}' is not written in UTF-8 ({error.reason}); save it so.") from error
        except csv.Error as error:
            raise InvalidValueError(f"'{table}' is not a table of labels ({error}); write it anew.") from error
    header = [name.strip() for name in rows[0]] if rows else []
    if len(header) < 2 or header[0] != _FILE:
        raise InvalidValueError(
            f"'{table}' begins with {repr(','.join(header))[:200]}; its first line has to be 'file' and the names of "
            "the classes, with commas between."
        )
    lines = [(f"'{table}', line {number}", row) for number, row in enumerate(rows[1:], start=2) if row]
    splits, column = None, _column_of_splits(header, lines)
    if column is not None:
        splits = [_split(row, column, where) for where, row in lines]
        del header[column]
        lines = [(where, row[:column] + row[column + 1 :]) for where, row in lines]
    class_names = header[1:]
    if not class_names or len(set(class_names)) < len(class_names) or "" in class_names:
        raise InvalidValueError(
            f"'{table}' has a class without a name, two of one name, or none; name every column anew."
        )
    labels = [_labels(row, class_names, where) for where, row in lines]
    paths = [str(inside(folder, row[0], where)) for where, row in lines]
    _require_each_once(paths, table)
    return LabelTable(class_names, paths, np.array(labels, "int32").reshape(len(paths), len(class_names)), splits)


def reorder_columns(labels: np.ndarray, class_names: list[str], wanted: list[str], table: Path) -> np.ndarray:
    """The columns of a table in the order of another's classes.

    Raises:
        ValueError: the classes are not the same.
    """
    if sorted(class_names) != sorted(wanted):
        differing = sorted(set(class_names) ^ set(wanted))
        raise InvalidValueError(
            f"class '{differing[0]}' is in one {LABEL_TABLE} alone, and not so in '{table}'; give both all."
        )
    return labels[:, [class_names.index(name) for name in wanted]]


def _column_of_splits(header: list[str], lines: list[tuple[str, list[str]]]) -> int | None:
    """The column that is called `split`, unless it holds 0 and 1 as that of a class does."""
    column = next((i for i, name in enumerate(header[1:], start=1) if name.lower() == _SPLIT), None)
    if column is None or all(row[column : column + 1] and row[column].strip() in _YES_OR_NO for _, row in lines):
        return None
    return column


def _split(row: list[str], column: int, where: str) -> str:
    name = "".join(row[column : column + 1]).strip()
    kind = split_kinds([name]).get(name)
    if kind is None:
        raise InvalidValueError(f"{where}: {name!r} is not the name of a split; write 'train', 'val' or 'test'.")
    return kind if kind in (TRAINING, TEST) else VALIDATION


def _labels(row: list[str], class_names: list[str], where: str) -> list[int]:
    if len(row) != 1 + len(class_names):
        raise InvalidValueError(
            f"{where}: {len(row)} entries for a file and {len(class_names)} classes; give each class 0 or 1."
        )
    values = [value.strip() for value in row[1:]]
    wrong = [value for value in values if value not in _YES_OR_NO]
    if wrong:
        raise InvalidValueError(
            f"{where}: {wrong[0]!r} is neither 0 nor 1; say of each class whether the picture is of it."
        )
    return [_YES_OR_NO[value] for value in values]


def _require_each_once(paths: list[str], table: Path) -> None:
    if not paths:
        raise InvalidValueError(f"'{table}' names no file; give a line to each picture.")
    seen: set[str] = set()
    for path in map(os.path.normpath, paths):
        if path in seen:
            raise InvalidValueError(f"'{table}' names '{path}' twice; give each picture one line.")
        seen.add(path)
