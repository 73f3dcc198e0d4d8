"""Pictures of which each may be of several classes: a table that names files and says yes or no to every class."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

LABEL_TABLE = "labels.csv"
_FILE = "file"
_YES_OR_NO = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}  # the latter as pandas writes whole columns


def read_label_table(folder: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Reads `labels.csv` of a folder: a column `file` of paths from there, and a column of 0 and 1 per class.

    Args:
        folder: The folder.

    Returns:
        Names of the classes, paths of the files, and labels of shape (pictures, classes), int32.

    Raises:
        ValueError: the table has another form; the message names the line.
        FileNotFoundError: there is no such table.
    """
    table = folder / LABEL_TABLE
    with table.open(newline="", encoding="utf-8-sig") as file:
        try:
            rows = list(csv.reader(file))
        except UnicodeDecodeError as error:
            raise ValueError(f"'{table}' is not written in UTF-8 ({error.reason}); save it so.") from error
    header = [name.strip() for name in rows[0]] if rows else []
    if len(header) < 2 or header[0] != _FILE:
        raise ValueError(
            f"'{table}' begins with {','.join(header)!r}; its first line has to be 'file' and the names of the "
            "classes, with commas between."
        )
    classes = header[1:]
    if len(set(classes)) < len(classes) or "" in classes:
        raise ValueError(f"'{table}' has a class without a name, or two of one name; name every column anew.")
    paths, labels = [], []
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        labels.append(_labels(row, classes, f"'{table}', line {number}"))
        paths.append(str(folder / row[0]))
    _require_each_once(paths, table)
    return classes, paths, np.array(labels, "int32").reshape(len(paths), len(classes))


def arranged(labels: np.ndarray, classes: list[str], wanted: list[str], table: Path) -> np.ndarray:
    """The columns of a table in the order of another's classes.

    Raises:
        ValueError: the classes are not the same.
    """
    if sorted(classes) != sorted(wanted):
        differing = sorted(set(classes) ^ set(wanted))
        raise ValueError(
            f"class '{differing[0]}' is in one {LABEL_TABLE} alone, and not so in '{table}'; give both all."
        )
    return labels[:, [classes.index(name) for name in wanted]]


def _labels(row: list[str], classes: list[str], where: str) -> list[int]:
    if len(row) != 1 + len(classes):
        raise ValueError(f"{where}: {len(row)} entries for a file and {len(classes)} classes; give each class 0 or 1.")
    values = [value.strip() for value in row[1:]]
    wrong = [value for value in values if value not in _YES_OR_NO]
    if wrong:
        raise ValueError(f"{where}: {wrong[0]!r} is neither 0 nor 1; say of each class whether the picture is of it.")
    return [_YES_OR_NO[value] for value in values]


def _require_each_once(paths: list[str], table: Path) -> None:
    if not paths:
        raise ValueError(f"'{table}' names no file; give a line to each picture.")
    seen: set[str] = set()
    for path in map(os.path.normpath, paths):
        if path in seen:
            raise ValueError(f"'{table}' names '{path}' twice; give each picture one line.")
        seen.add(path)
