"""Chooses the images on which an export is compared with its model."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError, MissingFileError
from keras_crossvit._internal.image_files import files_below, leads_out
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.preprocessing.transforms import TENSORS, inputs_of_kind

MAX_IMAGES = 200  # of a folder
_GENERATED, _SIDE, _SEED = 8, 320, 0


def comparison_inputs(images: Any, config: CrossViTConfig, kind: str = TENSORS) -> tuple[tuple[np.ndarray, ...], str]:
    """Returns a file's inputs for the images to compare on (see `export`), and a description of these images.

    Args:
        images: The images, or None for the default.
        config: The model's configuration.
        kind: What the file takes, one of `INPUT_KINDS`. Defaults to "tensors".

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder has no readable image, or `preprocess` refuses the images.
    """
    if isinstance(images, (str, PathLike)):
        return _folder_inputs(Path(images), config, kind)
    if images is not None:
        return inputs_of_kind(kind, images, config), "the given images"
    if config.in_channels in (1, 3) and (photographs := _photographs()):
        return inputs_of_kind(kind, _crops(photographs), config), "crops of two photographs"
    generated = [_generated_image(seed, config.in_channels) for seed in range(_GENERATED)]
    return inputs_of_kind(kind, generated, config), "generated images"


def _folder_inputs(folder: Path, config: CrossViTConfig, kind: str) -> tuple[tuple[np.ndarray, ...], str]:
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder '{folder}'; pass a folder of images to compare on.")
    files = sorted(
        each for each in map(Path, files_below(folder, folder)) if each.is_file() and not leads_out(each, folder)
    )
    spaced = np.linspace(0, len(files) - 1, min(len(files), MAX_IMAGES)).round().astype(int).tolist()
    others = sorted(set(range(len(files))) - set(spaced))  # replace files that are not images
    inputs: list[tuple[np.ndarray, ...]] = []
    for i in (*spaced, *others):
        if len(inputs) < MAX_IMAGES:
            with contextlib.suppress(ValueError):  # one by one, since images may be large
                inputs.append(inputs_of_kind(kind, read_image(files[i]), config))
    if not inputs:
        raise InvalidValueError(f"'{folder}' has no readable image; pass a folder with JPEG or PNG files.")
    which = "images in" if len(files) <= MAX_IMAGES else f"{len(inputs)} evenly spaced images in"
    return tuple(np.concatenate(branch) for branch in zip(*inputs, strict=True)), f"{which} {folder}"


def _photographs() -> list[np.ndarray]:
    """Reads scikit-learn's photographs, if it is installed; its import would take a second."""
    package = importlib.util.find_spec("sklearn")
    folders = (package and package.submodule_search_locations) or []
    return [read_image(path) for each in folders for path in sorted(Path(each, "datasets", "images").glob("*.jpg"))]


def _crops(photographs: Sequence[np.ndarray]) -> list[np.ndarray]:
    crops = []
    for photograph in photographs:
        crops.append(photograph)
        for half in np.array_split(photograph, 2, axis=0):
            crops.extend(np.array_split(half, 3, axis=1))
    return crops


def _generated_image(seed: int, channels: int) -> np.ndarray:
    """Random image whose amplitudes fall with the frequency, like those of photographs (Field, 1987)."""
    random = np.random.default_rng((_SEED, seed))
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None])
    amplitude = 1 / np.maximum(frequency, 1 / _SIDE)
    phases = np.exp(2j * np.pi * random.random((channels, *amplitude.shape)))
    waves = np.fft.irfft2(amplitude * phases, s=(_SIDE, _SIDE)).transpose(1, 2, 0)
    return np.clip(128 + 50 * waves / waves.std(), 0, 255).astype("uint8")
