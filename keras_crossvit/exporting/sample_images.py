"""Pictures to compare models on, where the user gives none."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError, MissingFileError
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.preprocessing.transforms import preprocess

MAX_IMAGES = 200  # of a folder; more would say little more
_SIDE = 320
_SEED = 0


def comparison_inputs(images: Any, config: CrossViTConfig) -> tuple[tuple[np.ndarray, ...], str]:
    """What `preprocess` makes of the pictures on which an artefact is compared with its model, and what they are.

    Args:
        images: A folder, of which at most 200 pictures are taken, evenly spread; or what `preprocess` takes; or
            None: parts of scikit-learn's two photographs where it is installed, and else drawn ones.
        config: The model's, by which they are preprocessed.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the folder has no picture that can be read, or the pictures are such that `preprocess` refuses them.
    """
    if isinstance(images, (str, PathLike)):
        return _inputs_of(Path(images), config)
    shown, described = (images, "the pictures given") if images is not None else _default_images(config)
    return preprocess(shown, config), described


def _inputs_of(folder: Path, config: CrossViTConfig) -> tuple[tuple[np.ndarray, ...], str]:
    """Of a folder's pictures one at a time is in memory; of the inputs, which are far smaller, all."""
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder '{folder}'; name one with pictures to compare on.")
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    spread = np.linspace(0, len(files) - 1, min(len(files), MAX_IMAGES)).round().astype(int).tolist()
    others = sorted(set(range(len(files))) - set(spread))  # in place of what cannot be read
    inputs = list(itertools.islice(_readable((files[i] for i in (*spread, *others)), config), MAX_IMAGES))
    if not inputs:
        raise InvalidValueError(f"'{folder}' has no picture that can be read; name a folder with JPEG or PNG files.")
    which = "pictures in" if len(files) <= MAX_IMAGES else f"{len(inputs)} pictures, evenly spread, in"
    return tuple(np.concatenate(branch) for branch in zip(*inputs, strict=True)), f"{which} {folder}"


def _readable(files: Iterable[Path], config: CrossViTConfig) -> Iterator[tuple[np.ndarray, ...]]:
    for file in files:
        try:
            yield preprocess(read_image(file), config)
        except ValueError:
            continue  # whatever else lies in the folder


def _default_images(config: CrossViTConfig) -> tuple[list[np.ndarray], str]:
    if config.in_channels in (1, 3) and importlib.util.find_spec("sklearn"):
        return _parts_of_photographs(), "parts of two photographs"
    return [_drawn_image(seed, config.in_channels) for seed in range(8)], "drawn pictures"


def _parts_of_photographs() -> list[np.ndarray]:
    from sklearn.datasets import load_sample_images

    parts = []
    for photograph in load_sample_images().images:
        parts.append(photograph)
        for half in np.array_split(photograph, 2, axis=0):
            parts.extend(np.array_split(half, 3, axis=1))
    return parts


def _drawn_image(seed: int, channels: int) -> np.ndarray:
    """A picture whose amplitudes fall with the frequency, as those of photographs do (Field, 1987)."""
    random = np.random.default_rng((_SEED, seed))
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None])
    amplitude = 1 / np.maximum(frequency, 1 / _SIDE)
    phases = np.exp(2j * np.pi * random.random((channels, *amplitude.shape)))
    waves = np.fft.irfft2(amplitude * phases, s=(_SIDE, _SIDE)).transpose(1, 2, 0)
    return np.clip(128 + 50 * waves / waves.std(), 0, 255).astype("uint8")
