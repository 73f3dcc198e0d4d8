"""Writes scikit-learn's 1,797 handwritten digits as a folder of images."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.optional import require_library

_VALIDATION_SPLIT = 0.2
_DARKEST = 16  # a pixel of a digit counts the ink in 4x4 fields of a scan
# Evaluation keeps 7/8 of an image: the digit, without the margin.
_DIGIT_SIZE, _IMAGE_SIZE = 56, 64


def write_digits(folder: str | PathLike) -> None:
    """Writes `train/<digit>/*.png` and `val/<digit>/*.png`, unless the folder exists.

    The images are gray, 64x64, with white ink on black. A fifth of every class is for validation, the same images every
    time.

    Raises:
        MissingLibraryError: scikit-learn is not installed.
    """
    datasets = require_library("sklearn.datasets", "quickstart")
    selection = require_library("sklearn.model_selection", "quickstart")
    if Path(folder).is_dir():
        return
    digits = datasets.load_digits()
    train, validation = selection.train_test_split(
        np.arange(len(digits.target)), test_size=_VALIDATION_SPLIT, stratify=digits.target, random_state=0
    )
    margin = (_IMAGE_SIZE - _DIGIT_SIZE) // 2
    with atomic_write(folder) as unfinished:
        for split, members in (("train", train), ("val", validation)):
            for label in range(10):
                (unfinished / split / str(label)).mkdir(parents=True)
            for i in members:
                ink = Image.fromarray((digits.images[i] * (255 / _DARKEST)).round().astype("uint8"))
                image = Image.new("L", (_IMAGE_SIZE, _IMAGE_SIZE))
                image.paste(ink.resize((_DIGIT_SIZE, _DIGIT_SIZE), Image.Resampling.BICUBIC), (margin, margin))
                image.save(unfinished / split / str(digits.target[i]) / f"{i:04d}.png")
