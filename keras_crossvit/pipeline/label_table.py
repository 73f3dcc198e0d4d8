"""Reads tables that label the images of a folder: labels.csv, metadata.csv, metadata.jsonl, ImageNet's solutions."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.files import inside
from keras_crossvit._internal.image_files import leads_out, require_inside
from keras_crossvit._internal.stored_json import parse_json
from keras_crossvit.pipeline.split_names import TEST, TRAINING, VALIDATION, split_kinds

LABEL_TABLE = "labels.csv"
METADATA = ("metadata.csv", "metadata.jsonl")  # of Hugging Face's imagefolder
_FILE, _METADATA_FILE, _SPLIT = "file", "file_name", "split"
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target")  # in order of preference
_VALUES = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}  # the latter two as written by pandas
# In Kaggle's copy of ImageNet the validation images have no class folders, but this table beside ILSVRC/.
IMAGENET_FOLDER = Path("ILSVRC", "Data", "CLS-LOC")
_IMAGENET_SOLUTION, _IMAGENET_ID, _IMAGENET_BOXES = "LOC_val_solution.csv", "ImageId", "PredictionString"
_Line = tuple[str, dict[str, Any]]  # where it is, and its cells by column


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """Files, their labels, int32, and their splits if the table names them.

    Labels have shape (files,), or (files, classes) with 0 and 1 if a file may have several classes.
    """

    path: Path
    class_names: list[str]
    files: list[str]
    labels: np.ndarray
    splits: list[str]

    @property
    def labelled(self) -> tuple[list[str], np.ndarray]:
        """All files and labels."""
        return self.files, self.labels

    def of_split(self, split: str) -> tuple[list[str], np.ndarray]:
        """Returns files and labels of a split."""
        rows = [i for i, each in enumerate(self.splits) if each == split]
        return [self.files[i] for i in rows], self.labels[rows]

    def labels_in_order(self, class_names: list[str], is_multi_label: bool) -> np.ndarray:
        """Returns the labels in the order of the training split's classes.

        Raises:
            InvalidValueError: the table has other classes, or several classes per file where that split has one.
        """
        if (self.labels.ndim == 2) != is_multi_label:
            raise InvalidValueError(
                f"Only one of '{self.path}' and the training split has several classes per image; label both alike."
            )
        unknown = set(self.class_names) - set(class_names)
        if differing := sorted(unknown | (set(class_names) - set(self.class_names) if is_multi_label else set())):
            raise InvalidValueError(
                f"Class '{differing[0]}' is in only one of '{self.path}' and the training split; use the same classes "
                "in both."
            )
        if is_multi_label:
            return self.labels[:, [self.class_names.index(name) for name in class_names]]
        return np.array([class_names.index(name) for name in self.class_names], "int32")[self.labels]


def find_label_table(folder: Path) -> Path | None:
    """Returns the table that labels the files of a folder, or None; metadata without a column of labels is none."""
    if (folder / LABEL_TABLE).is_file():
        return folder / LABEL_TABLE
    for name in METADATA:
        if (folder / name).is_file() and _label_column(_metadata_columns(folder / name)):
            return folder / name
    solution = Path(*folder.parts[:-4]) / _IMAGENET_SOLUTION
    is_imagenet = folder.parts[-4:] == (*IMAGENET_FOLDER.parts, "val")
    return solution if is_imagenet and solution.is_file() else None


def read_label_table(folder: Path, within: Path | None) -> LabelTable:
    """Reads the table of a folder, which `find_label_table` has found.

    `labels.csv` has a column `file` of paths relative to the folder, and a column of 0 and 1 per class or one column
    `label` of class names. `metadata.csv` and `metadata.jsonl` have `file_name` and a column such as `label` of class
    names or numbers, or in JSON lists of them. An optional column `split` names the split of each file, in any
    spelling; without it, files whose paths all start with folders of splits belong to these. Neither the table nor a
    file may be a link that leads out of the folder `within`; with None, they may.

    Raises:
        InvalidValueError: the table has another form or names a file outside the folder; the message has the line.
    """
    path = find_label_table(folder)
    assert path is not None  # found by the caller
    require_inside(path, within)
    if path.name == _IMAGENET_SOLUTION:
        lines = list(_csv_lines(path))
        _require_columns(path, lines, _IMAGENET_ID, _IMAGENET_BOXES)
        named = [(where, f"{row[_IMAGENET_ID]}.JPEG") for where, row in lines]
        class_names, labels = _named_labels([(where, row[_IMAGENET_BOXES].partition(" ")[0]) for where, row in lines])
        return LabelTable(path, class_names, _files(folder, named, within), labels, [])
    is_metadata = path.name in METADATA
    lines = list(_json_lines(path) if path.suffix == ".jsonl" else _csv_lines(path))
    header = list(lines[0][1]) if lines else _csv_header(path)
    file_column = _METADATA_FILE if is_metadata else _FILE
    if not is_metadata and (len(header) < 2 or header[0] != _FILE):
        raise InvalidValueError(
            f"'{path}' starts with {','.join(header)!r:.200}; its first line must be 'file' and the class names, "
            "separated by commas."
        )
    if is_metadata:
        _require_columns(path, lines, file_column)
    split_column = _split_column(header[1:] if not is_metadata else header, [row for _, row in lines])
    class_columns = [name for name in header if name not in (file_column, split_column)]
    label_column = _label_column(class_columns)
    if not is_metadata and not (len(class_columns) == 1 and label_column and not _is_binary(lines, label_column)):
        label_column = None
    if not class_columns:
        raise InvalidValueError(f"'{path}' has no class columns; name each class once.")
    if not lines:
        raise InvalidValueError(f"'{path}' lists no files; add a line for each image.")
    if label_column:
        class_names, labels = _named_labels([(where, row.get(label_column)) for where, row in lines])
    else:
        class_names = class_columns
        labels = np.array([[_label(row[name], where) for name in class_names] for where, row in lines], "int32")
    named = [(where, row[file_column]) for where, row in lines]
    files = _files(folder, named, within)
    if split_column:
        splits = [_split(str(row.get(split_column)), where) for where, row in lines]
    else:
        splits = _splits_of_paths([name for _, name in named])
    return LabelTable(path, class_names, files, labels, splits)


def _metadata_columns(path: Path) -> list[str]:
    if path.suffix == ".csv":
        return _csv_header(path)
    first = next(_json_lines(path), None)
    return [] if first is None else list(first[1])


def _label_column(columns: Sequence[str]) -> str | None:
    lowered = {name.lower(): name for name in reversed(columns)}
    return next((lowered[name] for name in _LABEL_COLUMNS if name in lowered), None)


def _csv_header(path: Path) -> list[str]:
    return [name.strip() for name in next(_csv_rows(path), [])]


def _csv_rows(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.reader(file)
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"'{path}' is not UTF-8 ({error.reason}); save it as UTF-8.") from error
    except csv.Error as error:
        raise InvalidValueError(f"'{path}' is not a CSV table ({error}); write it again.") from error


def _csv_lines(path: Path) -> Iterator[_Line]:
    rows = _csv_rows(path)
    header = [name.strip() for name in next(rows, [])]
    if len(set(header)) < len(header) or "" in header:
        raise InvalidValueError(f"'{path}' has an empty or repeated name of a column; name each column and class once.")
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        where = f"'{path}', line {number}"
        if len(row) != len(header):
            raise InvalidValueError(
                f"{where} has {len(row)} entries, but there are {len(header)} columns; fill them all."
            )
        yield where, {name: cell.strip() if i else cell for i, (name, cell) in enumerate(zip(header, row, strict=True))}


def _json_lines(path: Path) -> Iterator[_Line]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"'{path}', line {number}", parse_json(line, {str: Any})
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"'{path}' is not UTF-8 ({error.reason}); save it as UTF-8.") from error
    except InvalidValueError as error:
        raise InvalidValueError(f"'{path}' has a line that is not a JSON object ({error}); write it again.") from error


def _require_columns(path: Path, lines: Sequence[_Line], *columns: str) -> None:
    for where, row in lines[:1] if path.suffix == ".csv" else lines:
        for column in columns:
            if column not in row:
                raise InvalidValueError(f"{where} has no '{column}'; add the column.")


def _is_binary(lines: Sequence[_Line], column: str) -> bool:
    return all(row[column] in _VALUES for _, row in lines)


def _files(folder: Path, named: Sequence[tuple[str, Any]], within: Path | None) -> list[str]:
    files, seen = [_file(folder, name, where, within) for where, name in named], set[str]()
    for (where, _), path in zip(named, map(os.path.normpath, files), strict=True):
        if path in seen:
            raise InvalidValueError(f"{where} lists '{path}' twice; keep one line for each image.")
        seen.add(path)
    return files


def _file(folder: Path, name: Any, where: str, within: Path | None) -> str:
    path = inside(folder, name, where, follow_links=True)
    if within is not None and leads_out(path, within):
        raise InvalidValueError(
            f"{where} names {name!r:.200}, a link that leads out of '{within}'; replace it by a copy, or allow such "
            "links with follow_links=True (--follow-links)."
        )
    return str(path)


def _split_column(header: Sequence[str], rows: Sequence[dict[str, Any]]) -> str | None:
    """Returns the column named `split`, unless it holds only 0 and 1 and is therefore a class."""
    column = next((name for name in header if name.lower() == _SPLIT), None)
    return None if column is None or all(str(row.get(column)) in _VALUES for row in rows) else column


def _split(name: str, where: str) -> str:
    kind = split_kinds([name]).get(name)
    if kind is None:
        raise InvalidValueError(f"{where}: {name!r} is not the name of a split; use 'train', 'val' or 'test'.")
    return kind if kind in (TRAINING, TEST) else VALIDATION


def _splits_of_paths(names: Sequence[str]) -> list[str]:
    """Returns the splits that all paths start with, such as `train/1.jpg` and `val/2.jpg`, or none."""
    first = [name.partition("/")[0] if "/" in name else "" for name in names]
    kinds = split_kinds(set(first))
    if set(kinds) != set(first) or TRAINING not in kinds.values():
        return []
    return [kinds[name] if kinds[name] in (TRAINING, TEST) else VALIDATION for name in first]


def _named_labels(values: Sequence[tuple[str, Any]]) -> tuple[list[str], np.ndarray]:
    """Returns the class names, and labels of shape (files,), or (files, classes) where values are lists."""
    lists = [(where, value if isinstance(value, list) else [value]) for where, value in values]
    for where, each in lists:
        for value in each:
            if type(value) not in (str, int) or not str(value).strip():
                raise InvalidValueError(f"{where}: {value!r:.80} is not the name or number of a class; give one.")
    distinct = {str(value).strip() for _, each in lists for value in each}
    class_names = sorted(distinct, key=int) if all(map(_is_number, distinct)) else sorted(distinct)
    position = {name: i for i, name in enumerate(class_names)}
    if any(isinstance(value, list) for _, value in values):
        labels = np.zeros((len(lists), len(class_names)), "int32")
        for row, (_, each) in zip(labels, lists, strict=True):
            row[[position[str(value).strip()] for value in each]] = 1
        return class_names, labels
    return class_names, np.array([position[str(value).strip()] for _, (value,) in lists], "int32")


def _is_number(name: str) -> bool:
    return len(name) < 10 and name.isdecimal() and name.isascii() and str(int(name)) == name


def _label(value: str, where: str) -> int:
    if value not in _VALUES:
        raise InvalidValueError(
            f"{where}: {value!r} is neither 0 nor 1; give each class a column of 0 and 1, or, if each image has one "
            "class, name it in a single column 'label'."
        )
    return _VALUES[value]
