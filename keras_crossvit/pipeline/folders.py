"""Class folders: which files there are, and of which class."""

from __future__ import annotations

import math
import mimetypes
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.pipeline.label_table import LABEL_TABLE
from keras_crossvit.pipeline.split_names import (
    EVALUATION,
    TEST,
    TRAINING,
    VALIDATION,
    refuse_splits_as_classes,
    split_kinds,
)

# What file managers, archives and network drives leave behind; so are hidden files and folders.
_OF_THE_SYSTEM = {
    *("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"),
}
_NAMED = 4  # in an error
_SPLIT = 2  # stream of random numbers


class Splits(NamedTuple):
    """Folders of the splits; each holds a folder for each class, or a table of labels."""

    training: Path
    validation: Path | None = None
    test: Path | None = None


def find_splits(root: Path) -> Splits:
    """The folders of the splits in a collection, however they are spelled; without any it is a folder of classes.

    Raises:
        ValueError: there are two folders of one split, or none of training beside others; a folder named as a split
            may as well be a class; or classes look like splits of other names.
    """
    found = _found_splits(root)
    training, validation, test = (found.get(kind) for kind in (TRAINING, VALIDATION, TEST))
    if training is None:
        if (root / LABEL_TABLE).is_file():  # which says what the files are, whatever their folders are called
            return Splits(root)
        if other := validation or test:
            raise InvalidValueError(
                f"'{root}' holds '{other.name}' but no 'train'; put the folders of the classes to train on into a "
                f"folder 'train' ('{other.name}' too if it is a class), or give '{other}' itself."
            )
        _require_classes(root)
        return Splits(root)
    if validation is None:
        _require_no_classes_beside(training)
    return Splits(*(each and _unwrapped(each) for each in (training, validation, test)))


def find_validation_split(root: Path) -> Path | None:
    """The folder of validation images, or None where there is none.

    Raises:
        ValueError: it may as well be a class, or there are two of them.
    """
    found = _found_splits(root)
    validation = found.get(VALIDATION)
    if validation is None:
        return None
    if TRAINING not in found:
        _require_no_classes_beside(validation)
    return _unwrapped(validation)


def _found_splits(root: Path) -> dict[str, Path]:
    found: dict[str, list[str]] = {}
    for name, kind in sorted(split_kinds(_folders_in(root)).items()):
        if _may_be_split(root / name):
            found.setdefault(kind, []).append(name)
    if names := found.pop(EVALUATION, None):
        found.setdefault(TEST if VALIDATION in found else VALIDATION, []).extend(names)
    for kind, names in found.items():
        if len(names) > 1:
            raise InvalidValueError(
                f"'{root}' holds both '{names[0]}' and '{names[1]}', and each looks like the {kind} split; keep one of "
                "them, or move the other elsewhere."
            )
    return {kind: root / names[0] for kind, names in found.items()}


def _may_be_split(folder: Path) -> bool:
    """Whether a folder has folders for classes or a table of them, or nothing; with files only it is like a class."""
    entries = [entry for entry in os.scandir(folder) if _is_of_the_user(entry.name)]
    return not entries or any(entry.is_dir() or entry.name == LABEL_TABLE for entry in entries)


def _unwrapped(split: Path) -> Path:
    """The folder of the same name that is all there is in a split, as some archives have it, or else the split."""
    is_wrapper = _folders_in(split) == [split.name] and not _files_in(split)
    return split / split.name if is_wrapper and _may_be_split(split / split.name) else split


def _require_no_classes_beside(split: Path) -> None:
    if (split / LABEL_TABLE).is_file():
        return
    names = _folders_in(split.parent)
    beside = sorted(set(names) - set(split_kinds(names)))
    class_names = [name for name in beside if any(map(_is_image, _files_below(split.parent / name)))]
    if class_names:
        raise InvalidValueError(
            f"'{split}' may be the pictures of a split or those of a class, for '{class_names[0]}' lies beside it; give "
            f"'{split}' itself, or put the folders of all classes into a folder '{split.name}' of their own."
        )


def _require_classes(root: Path) -> None:
    """Raises ValueError where what would be classes are collections, or hold the same folders instead of images."""
    holders, without_images = defaultdict(set), set()
    for name in sorted(_folders_in(root)):
        folder = root / name
        inner = _folders_in(folder)
        holds_images = any(map(_is_image, _files_in(folder)))
        splits = [
            each for each, kind in split_kinds(inner).items() if kind == TRAINING and _may_be_split(folder / each)
        ]
        if splits and not holds_images:
            raise InvalidValueError(
                f"'{folder}' holds '{splits[0]}', so it is a collection and not a class; give '{folder}' itself."
            )
        for each in inner:
            holders[each.casefold()].add(name)
        if not holds_images:
            without_images.add(name)
    shared = sorted(each for each, names in holders.items() if len(names) > 1 and names & without_images)
    if not shared:
        return
    names = sorted(set.union(*(holders[each] for each in shared)))
    alike = f"{_listed(names)} in '{root}' hold folders of the same names ({_listed(shared)}) instead of images"
    if split_kinds(shared):
        raise InvalidValueError(
            f"{alike}; put the folders of the classes into those of the splits: 'train/{names[0]}'."
        )
    raise InvalidValueError(
        f"{alike}, as splits do; rename those that are splits 'train', 'val' and 'test'. If they are classes, put all "
        "of them into a folder 'train'."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; each is a class."""
    names = sorted(_folders_in(folder))
    if not names:
        raise InvalidValueError(
            f"'{folder}' holds no folders; put the pictures of each class into a folder of its name."
        )
    refuse_splits_as_classes(names, f"'{folder}'")
    return names


def _folders_in(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.is_dir() and _is_of_the_user(entry.name)]


def _files_in(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.is_file() and _is_of_the_user(entry.name)]


def _is_image(name: str) -> bool:
    """Whether a file's name is not that of something else; pictures have any suffix, and none."""
    return (mimetypes.guess_type(name)[0] or "image/").startswith("image/")


def _is_of_the_user(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _OF_THE_SYSTEM


def list_files(folder: Path, class_names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Paths of all files below each class's folder, sorted within the class, and the class of each."""
    paths, labels = [], []
    for label, name in enumerate(class_names):
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
    validation = []
    for label in np.unique(labels):
        places = random.permutation(np.flatnonzero(labels == label))
        validation += places[: min(round(fraction * len(places)), len(places) - 1)].tolist()
    if not validation:
        raise InvalidValueError(
            f"validation_split {fraction:g} holds no picture out, {_remedy_for_empty_validation(labels)}"
        )
    is_validation = np.zeros(len(labels), bool)
    is_validation[validation] = True
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def _remedy_for_empty_validation(labels: np.ndarray) -> str:
    most = int(np.bincount(labels).max())
    if most < 2:
        return "for each class has but one; add some, or give a folder 'val'."
    decimals = math.ceil(math.log10(most)) + 1
    fraction = (math.floor(10**decimals / 2 / most) + 1) / 10**decimals  # a little more than half a picture
    return f"for no class has more than {most}; use {fraction:g} or more, or give a folder 'val'."


def _files_below(folder: Path) -> Iterator[str]:
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link back to where we are
            folders.clear()
            continue
        seen.add(real)
        folders[:] = filter(_is_of_the_user, folders)
        yield from (os.path.join(parent, name) for name in files if _is_of_the_user(name))  # noqa: PTH118 a million, as text
