"""Finds splits, classes and labels in a folder of images."""

from __future__ import annotations

import mimetypes
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.image_files import files_below, is_of_the_user, links_out
from keras_crossvit.pipeline.label_table import (
    IMAGENET_FOLDER,
    LABEL_TABLE,
    METADATA,
    find_label_table,
    read_label_table,
)
from keras_crossvit.pipeline.split_names import (
    EVALUATION,
    TEST,
    TRAINING,
    VALIDATION,
    refuse_splits_as_classes,
    split_kinds,
)

_NAMES_SHOWN = 4  # in a message
Labelled = tuple[list[str], np.ndarray]  # paths, and labels of shape (files,) or (files, classes)


class Splits(NamedTuple):
    """Folders of the splits; each has a folder per class, or a table of labels."""

    training: Path
    validation: Path | None = None
    test: Path | None = None


class LabelledFiles(NamedTuple):
    """Class names, and the labelled files of each split; a split that is missing has none."""

    class_names: list[str]
    training: Labelled
    validation: Labelled
    test: Labelled


def find_splits(root: Path) -> Splits:
    """Returns the folders of the splits, in any spelling; a folder without splits is the training split itself.

    Raises:
        InvalidValueError: a split has two folders; there are splits but not for training; a folder named like a split
            could also be a class; or folders look like splits in another language.
    """
    root = _imagenet_folder(root)
    table = find_label_table(root)
    found = _split_folders(root)
    training, validation, test = (found.get(kind) for kind in (TRAINING, VALIDATION, TEST))
    if table is not None and (training is None or (table.name in METADATA and find_label_table(training) is None)):
        return Splits(root)  # the names of folders mean nothing
    if training is None:
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


def find_split(root: Path, kind: str) -> Path | None:
    """Returns the folder of a split, or None if the root has none; raises if there are two or it could be a class."""
    root = _imagenet_folder(root)
    found = _split_folders(root)
    split, table = found.get(kind), find_label_table(root)
    if split is None or (table is not None and table.name in METADATA and find_label_table(split) is None):
        return None
    if TRAINING not in found:
        _require_no_classes_beside(split)
    return _unwrap(split)


def labelled_files(splits: Splits, within: Path | None) -> LabelledFiles:
    """Returns class names and labelled files of training and validation; `within` as in `files_below`.

    Files of a test split are those of a table with splits only; its folder is opened by itself.
    """
    training, validation, _ = splits
    if find_label_table(training) is None:
        class_names, is_multi_label = _class_folders(training), False
        training_files = _files_of_classes(training, class_names, within)
    else:
        table = read_label_table(training, within)
        class_names, is_multi_label, training_files = table.class_names, table.labels.ndim == 2, table.labelled
        if table.splits and validation is not None:
            raise InvalidValueError(f"'{table.path}' names splits, but there is also '{validation}'; remove one.")
        if table.splits:
            return LabelledFiles(class_names, *map(table.of_split, (TRAINING, VALIDATION, TEST)))
    shape = (0, len(class_names)) if is_multi_label else 0
    none: Labelled = ([], np.zeros(shape, "int32"))
    if validation is None:
        return LabelledFiles(class_names, training_files, none, none)
    if find_label_table(validation) is not None:
        other = read_label_table(validation, within)
        labels = other.labels_in_order(class_names, is_multi_label)
        return LabelledFiles(class_names, training_files, (other.files, labels), none)
    if is_multi_label:
        raise InvalidValueError(f"'{validation}' has no '{LABEL_TABLE}', as the training split has; add one.")
    if unknown := sorted(set(_class_folders(validation)) - set(class_names)):
        raise InvalidValueError(
            f"'{validation / unknown[0]}' is a class without training images; add some, or remove it."
        )
    return LabelledFiles(class_names, training_files, _files_of_classes(validation, class_names, within), none)


def files_of_split(split: Path, within: Path | None) -> list[str]:
    """Returns the files of a split, unread."""
    if find_label_table(split) is not None:
        return read_label_table(split, within).files
    return [path for name in _folders_in(split) for path in files_below(split / name, within)]


def split_names(root: Path, within: Path | None) -> list[str]:
    """Returns which of "training", "validation" and "test" a folder has; one without splits has "training"."""
    found = [kind for kind in (TRAINING, VALIDATION, TEST) if find_split(root, kind) is not None]
    if not found and find_label_table(root) is not None:
        found = sorted(set(read_label_table(root, within).splits))
    return found or [TRAINING]


def ignored_names(root: Path, splits: Splits, used: Sequence[str], within: Path | None) -> list[str]:
    """Returns what a folder has besides its splits, relative to it: folders, files outside of classes, unlisted files.

    Args:
        root: The folder.
        splits: Its splits.
        used: Files of all splits that a table lists.
        within: As in `files_below`.
    """
    ignored: list[Path] = []
    inner = _imagenet_folder(root)
    folders = [split for split in splits if split is not None]
    if inner not in folders:
        tops = {split.relative_to(inner).parts[0] for split in folders}
        ignored += [inner / name for name in sorted(_folders_in(inner)) if name not in tops]
        ignored += [inner / name for name in sorted(_files_in(inner)) if _is_image(name) or _is_table(name)]
    listed = set(map(os.path.normpath, used))
    for split in folders:
        if (table := find_label_table(split)) is None:
            ignored += [split / name for name in sorted(_files_in(split)) if _is_image(name) or _is_table(name)]
        else:
            unlisted = (
                Path(path) for path in sorted(files_below(split, within)) if os.path.normpath(path) not in listed
            )
            ignored += [path for path in unlisted if _is_image(path.name) and path != table]
    return [str(path.relative_to(root)) for path in ignored]


def _imagenet_folder(root: Path) -> Path:
    """Returns the folder of the images in Kaggle's copy of ImageNet; every other folder is unchanged."""
    return root / IMAGENET_FOLDER if (root / IMAGENET_FOLDER).is_dir() else root


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
    entries = [entry for entry in os.scandir(folder) if is_of_the_user(entry.name)]
    return not entries or any(entry.is_dir() for entry in entries) or find_label_table(folder) is not None


def _unwrap(split: Path) -> Path:
    """Returns the folder of the same name inside a split if there is nothing else, as in some archives."""
    is_wrapper = _folders_in(split) == [split.name] and not _files_in(split)
    return split / split.name if is_wrapper and _may_be_split(split / split.name) else split


def _require_no_classes_beside(split: Path) -> None:
    if find_label_table(split) is not None:
        return
    names = _folders_in(split.parent)
    for name in sorted(set(names) - set(split_kinds(names))):
        if any(map(_is_image, files_below(split.parent / name, split.parent))):
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
        raise InvalidValueError(
            f"'{folder}' has no folders; put the images of each class into a folder of its name, "
            "or list them in 'labels.csv' with a column 'file' and a column 'label', or a column of 0 and 1 for each "
            "class."
        )
    refuse_splits_as_classes(names, f"'{folder}'")
    return names


def _files_of_classes(folder: Path, class_names: Sequence[str], within: Path | None) -> Labelled:
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = sorted(files_below(folder / name, within)) if (folder / name).is_dir() else []
        if within is not None:
            _refuse_links_to_other_classes(folder, name, class_names, found)
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, "int32")


def _refuse_links_to_other_classes(folder: Path, name: str, class_names: Sequence[str], paths: Sequence[str]) -> None:
    """Raises ValueError if an image of a class is a link to an image of another one, and so would have two labels."""
    real, others = Path(os.path.realpath(folder)), set(class_names) - {name}
    for path in sorted(links_out(paths, folder / name)):
        target = Path(os.path.realpath(path))
        if target.is_relative_to(real) and (found := others.intersection(target.relative_to(real).parts[:1])):
            raise InvalidValueError(
                f"'{path}' leads to class '{found.pop()}' through a link; remove the link, or pass follow_links=True "
                "(--follow-links)."
            )


def _folders_in(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.is_dir() and is_of_the_user(entry.name)]


def _files_in(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.is_file() and is_of_the_user(entry.name)]


def _is_table(name: str) -> bool:
    return name in (LABEL_TABLE, *METADATA)


def _is_image(name: str) -> bool:
    """Returns whether a file may be an image: any suffix except those of other types of files, or none."""
    return (mimetypes.guess_type(name)[0] or "image/").startswith("image/")
