"""Pictures to compare models on, where the user gives none."""

from __future__ import annotations

import importlib.util
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit.data.pictures import read_picture

_SIDE = 320
_SEED = 0


def comparison_pictures(pictures: Any, channels: int) -> tuple[list[np.ndarray], str]:
    """The pictures on which an artefact is compared with its model, and what they are.

    Args:
        pictures: A folder, or what `preprocess` takes, or None: parts of scikit-learn's two photographs where it is
            installed, and else drawn ones.
        channels: Channels of the model's images.

    Raises:
        ValueError: the folder has no picture that can be read.
    """
    if isinstance(pictures, (str, PathLike)):
        return _pictures_in(Path(pictures)), f"pictures in {pictures}"
    if pictures is not None:
        return list(pictures), "the pictures given"
    if channels in (1, 3) and importlib.util.find_spec("sklearn"):
        return _parts_of_photographs(), "parts of two photographs"
    return [_drawn_picture(seed, channels) for seed in range(8)], "drawn pictures"


def _pictures_in(folder: Path) -> list[np.ndarray]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder '{folder}'; name one with pictures to compare on.")
    pictures = []
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        try:
            pictures.append(read_picture(file))
        except ValueError:
            continue  # whatever else lies in the folder
    if not pictures:
        raise ValueError(f"'{folder}' has no picture that can be read; name a folder with JPEG or PNG files.")
    return pictures


def _parts_of_photographs() -> list[np.ndarray]:
    from sklearn.datasets import load_sample_images

    parts = []
    for photograph in load_sample_images().images:
        parts.append(photograph)
        for half in np.array_split(photograph, 2, axis=0):
            parts.extend(np.array_split(half, 3, axis=1))
    return parts


def _drawn_picture(seed: int, channels: int) -> np.ndarray:
    """A picture whose amplitudes fall with the frequency, as those of photographs do (Field, 1987)."""
    random = np.random.default_rng((_SEED, seed))
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None])
    amplitude = 1 / np.maximum(frequency, 1 / _SIDE)
    phases = np.exp(2j * np.pi * random.random((channels, *amplitude.shape)))
    waves = np.fft.irfft2(amplitude * phases, s=(_SIDE, _SIDE)).transpose(1, 2, 0)
    return np.clip(128 + 50 * waves / waves.std(), 0, 255).astype("uint8")
