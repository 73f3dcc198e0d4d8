"""Finds splits, classes and labels in a folder of images."""

from __future__ import annotations

import mimetypes
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.log import logger
from keras_crossvit.pipeline.label_table import LABEL_TABLE, read_label_table
from keras_crossvit.pipeline.split_names import (
    EVALUATION,
    TEST,
    TRAINING,
    VALIDATION,
    refuse_splits_as_classes,
    split_kinds,
)

# Left behind by file managers, archives and network drives; ignored, as hidden files and folders are.
_SYSTEM_NAMES = {
    *("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"),
}
_NAMES_SHOWN = 4  # in an error
Labelled = tuple[list[str], np.ndarray]  # paths, and labels of shape (files,) or (files, classes)


class Splits(NamedTuple):
    """Folders of the splits; each has a folder per class, or a table of labels."""

    training: Path
    validation: Path | None = None
    test: Path | None = None


def find_splits(root: Path) -> Splits:
    """Returns the folders of the splits, in any spelling; a folder without splits is the training split itself.

    Raises:
        ValueError: a split has two folders; there are splits but not for training; a folder named like a split could
            also be a class; or folders look like splits in another language.
    """
    found = _split_folders(root)
    training, validation, test = (found.get(kind) for kind in (TRAINING, VALIDATION, TEST))
    if training is None:
        if (root / LABEL_TABLE).is_file():  # then the names of folders mean nothing
            return Splits(root)
        if other := validation or test:
            raise InvalidValueError(
                f"'{root}' has '{other.name}' but no 'train'. Put the class folders to train on into a folder 'train' "
                f"(including '{other.name}' if it is a class), or pass '{other}' itself."
            )
        _require_classes(root)
        return Splits(root)
    if validation is None:
        _require_no_classes_beside(training)
    return Splits(_unwrap(training), validation and _unwrap(validation), test and _unwrap(test))


def find_validation_split(root: Path) -> Path | None:
    """Returns the folder of validation images, or None; raises ValueError if there are two or it could be a class."""
    found = _split_folders(root)
    validation = found.get(VALIDATION)
    if validation is None:
        return None
    if TRAINING not in found:
        _require_no_classes_beside(validation)
    return _unwrap(validation)


def labelled_files(splits: Splits) -> tuple[list[str], Labelled, Labelled]:
    """Returns the class names, and the labelled files of training and validation."""
    training, validation, test = splits
    if test is not None:
        _log_unused(f"'{test}'")
    if (training / LABEL_TABLE).is_file():
        return _files_of_tables(training, validation)
    class_names = _class_folders(training)
    validation_files: Labelled = ([], np.zeros(0, "int32"))
    if validation is not None:
        if unknown := sorted(set(_class_folders(validation)) - set(class_names)):
            raise InvalidValueError(
                f"'{validation / unknown[0]}' is a class without training images; add some, or remove it."
            )
        validation_files = _files_of_classes(validation, class_names)
    return class_names, _files_of_classes(training, class_names), validation_files


def _files_of_tables(training: Path, validation: Path | None) -> tuple[list[str], Labelled, Labelled]:
    table = read_label_table(training)
    if table.splits and validation is not None:
        raise InvalidValueError(
            f"'{training / LABEL_TABLE}' has a column of splits, but there is also '{validation}'; remove one of them."
        )
    if table.splits:
        if unused := len(table.of_split(TEST)[0]):
            _log_unused(f"The test split of '{training / LABEL_TABLE}' ({unused} images)")
        return table.class_names, table.of_split(TRAINING), table.of_split(VALIDATION)
    validation_files: Labelled = ([], np.zeros((0, len(table.class_names)), "int32"))
    if validation is not None:
        other = read_label_table(validation)
        validation_files = other.files, other.labels_in_order(table.class_names, validation / LABEL_TABLE)
    return table.class_names, (table.files, table.labels), validation_files


def _log_unused(what: str) -> None:
    logger.info("%s is not used for training or validation; pass it to evaluate.", what)


def _split_folders(root: Path) -> dict[str, Path]:
    found: dict[str, list[str]] = {}
    for name, kind in sorted(split_kinds(_folders_in(root)).items()):
        if _may_be_split(root / name):
            found.setdefault(kind, []).append(name)
    if names := found.pop(EVALUATION, None):
        found.setdefault(TEST if VALIDATION in found else VALIDATION, []).extend(names)
    for kind, names in found.items():
        if len(names) > 1:
            raise InvalidValueError(
                f"'{root}' has both '{names[0]}' and '{names[1]}', which look like the {kind} split; remove one."
            )
    return {kind: root / names[0] for kind, names in found.items()}


def _may_be_split(folder: Path) -> bool:
    """Returns whether a folder is empty or has folders or a label table; with only files it is a class."""
    entries = [entry for entry in os.scandir(folder) if _is_of_the_user(entry.name)]
    return not entries or any(entry.is_dir() or entry.name == LABEL_TABLE for entry in entries)


def _unwrap(split: Path) -> Path:
    """Returns the folder of the same name inside a split if there is nothing else, as in some archives."""
    is_wrapper = _folders_in(split) == [split.name] and not _files_in(split)
    return split / split.name if is_wrapper and _may_be_split(split / split.name) else split


def _require_no_classes_beside(split: Path) -> None:
    if (split / LABEL_TABLE).is_file():
        return
    names = _folders_in(split.parent)
    for name in sorted(set(names) - set(split_kinds(names))):
        if any(map(_is_image, _files_below(split.parent / name))):
            raise InvalidValueError(
                f"'{split}' may be a split or a class, since '{name}' is next to it. Pass '{split}' itself, or put the "
                f"folders of all classes into a folder of their own, '{split.name}'."
            )


def _require_classes(root: Path) -> None:
    """Raises ValueError if the folders are data sets, or have the same subfolders instead of images, as splits do."""
    parents, without_images = defaultdict(set), set()
    for name in sorted(_folders_in(root)):
        folder = root / name
        inner = _folders_in(folder)
        for each in inner:
            parents[each.casefold()].add(name)
        if any(map(_is_image, _files_in(folder))):
            continue
        without_images.add(name)
        for each, kind in split_kinds(inner).items():
            if kind == TRAINING and _may_be_split(folder / each):
                raise InvalidValueError(
                    f"'{folder}' has a folder '{each}', so it is a data set and not a class; pass '{folder}' itself."
                )
    shared = sorted(each for each, names in parents.items() if len(names) > 1 and names & without_images)
    if not shared:
        return
    names = sorted(set.union(*(parents[each] for each in shared)))
    problem = f"{_listed(names)} in '{root}' have the same folders ({_listed(shared)}) instead of images"
    if split_kinds(shared):
        raise InvalidValueError(f"{problem}. Put the class folders into the split folders, as in 'train/{names[0]}'.")
    raise InvalidValueError(
        f"{problem}, as splits do. Rename splits to 'train', 'val' and 'test'; if they are classes, put all of them "
        "into a folder 'train'."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")


def _class_folders(folder: Path) -> list[str]:
    names = sorted(_folders_in(folder))
    if not names:
        raise InvalidValueError(f"'{folder}' has no folders; put the images of each class into a folder of its name.")
    refuse_splits_as_classes(names, f"'{folder}'")
    return names


def _files_of_classes(folder: Path, class_names: Sequence[str]) -> Labelled:
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = sorted(_files_below(folder / name)) if (folder / name).is_dir() else []
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, "int32")


def _files_below(folder: Path) -> Iterator[str]:
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link back to a parent
            folders.clear()
            continue
        seen.add(real)
        folders[:] = filter(_is_of_the_user, folders)
        yield from (os.path.join(parent, name) for name in files if _is_of_the_user(name))  # noqa: PTH118 faster


def _folders_in(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.is_dir() and _is_of_the_user(entry.name)]


def _files_in(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.is_file() and _is_of_the_user(entry.name)]


def _is_of_the_user(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _SYSTEM_NAMES


def _is_image(name: str) -> bool:
    """Returns whether a file may be an image: any suffix except those of other types of files, or none."""
    return (mimetypes.guess_type(name)[0] or "image/").startswith("image/")
