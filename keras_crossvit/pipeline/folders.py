"""Class folders: which files there are, and of which class."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_crossvit.pipeline.label_table import LABEL_TABLE

_TRAINING, _VALIDATION = ("train", "training"), ("val", "validation", "valid")
_BESIDE_THEM = ("test", "testing")  # what else a collection with splits often has, and nobody reads here
# What file managers, archives and network drives leave behind; so are hidden files and folders.
_OF_THE_SYSTEM = {
    *("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"),
}
_SPLIT = 2  # stream of random numbers


def find_splits(root: Path) -> tuple[Path, Path | None]:
    """The folders of training and validation pictures; a folder of classes alone is one of training.

    Raises:
        ValueError: a folder named as a split may as well be a class, or there is no training split.
    """
    training, validation = (_one_of(root, names) for names in (_TRAINING, _VALIDATION))
    if validation and not training:
        raise ValueError(f"'{root}' holds '{validation.name}' but no 'train'; name the training pictures' folder so.")
    if training and not validation:
        _require_no_classes_beside(training)
    return training or root, validation


def find_held_out(root: Path) -> Path | None:
    """The folder of validation pictures, or None where there is none.

    Raises:
        ValueError: it may as well be a class.
    """
    validation = _one_of(root, _VALIDATION)
    if validation and not _one_of(root, _TRAINING):
        _require_no_classes_beside(validation)
    return validation


def _one_of(root: Path, names: Sequence[str]) -> Path | None:
    found = [root / name for name in names if _may_be_split(root / name)]
    if len(found) > 1:
        raise ValueError(f"'{root}' holds both '{found[0].name}' and '{found[1].name}'; keep one of them.")
    return found[0] if found else None


def _may_be_split(folder: Path) -> bool:
    return folder.is_dir() and not _holds_files_alone(folder)


def _holds_files_alone(folder: Path) -> bool:
    """Whether a folder has neither folders for classes nor a table of them, so that it is itself like a class."""
    entries = [entry for entry in os.scandir(folder) if _is_of_the_user(entry.name)]
    return bool(entries) and not any(entry.is_dir() or entry.name == LABEL_TABLE for entry in entries)


def _require_no_classes_beside(split: Path) -> None:
    if (split / LABEL_TABLE).is_file():
        return
    beside = sorted({*_folders_in(split.parent)} - {*_TRAINING, *_VALIDATION, *_BESIDE_THEM})
    classes = [name for name in beside if _holds_files_alone(split.parent / name)]
    if classes:
        raise ValueError(
            f"'{split}' may be the pictures of a split or those of a class, for '{classes[0]}' lies beside it; give "
            f"'{split}' itself, or put the folders of all classes into a folder '{split.name}' of their own."
        )


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; each is a class."""
    names = sorted(_folders_in(folder))
    if not names:
        raise ValueError(f"'{folder}' holds no folders; put the pictures of each class into a folder of its name.")
    return names


def _folders_in(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.is_dir() and _is_of_the_user(entry.name)]


def _is_of_the_user(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _OF_THE_SYSTEM


def list_files(folder: Path, classes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Paths of all files below each class's folder, sorted within the class, and the class of each."""
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = sorted(_files_below(folder / name)) if (folder / name).is_dir() else []
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, "int32")


def stratified_split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of training and of validation pictures: the fraction of each class, but never all of it.

    Args:
        labels: Class of each picture.
        fraction: Share to hold out.
        seed: Fixes which are.

    Raises:
        ValueError: the fraction holds nothing out.
    """
    random = np.random.RandomState([_SPLIT, seed])
    held_out = []
    for label in np.unique(labels):
        places = random.permutation(np.flatnonzero(labels == label))
        held_out += places[: min(round(fraction * len(places)), len(places) - 1)].tolist()
    if not held_out:
        raise ValueError(f"validation_split {fraction:g} holds no picture out, {_remedy_for_nothing_held_out(labels)}")
    is_held_out = np.zeros(len(labels), bool)
    is_held_out[held_out] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _remedy_for_nothing_held_out(labels: np.ndarray) -> str:
    most = int(np.bincount(labels).max())
    if most < 2:
        return "for each class has but one; add some, or give a folder 'val'."
    decimals = math.ceil(math.log10(most)) + 1
    share = (math.floor(10**decimals / 2 / most) + 1) / 10**decimals  # a little more than half a picture
    return f"for no class has more than {most}; use {share:g} or more, or give a folder 'val'."


def _files_below(folder: Path) -> list[str]:
    found, seen = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link back to where we are
            folders.clear()
            continue
        seen.add(real)
        folders[:] = filter(_is_of_the_user, folders)
        found += [os.path.join(parent, name) for name in files if _is_of_the_user(name)]  # noqa: PTH118 a million, as text
    return found
