"""Checkpoints on disk: timm's safetensors."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from keras_crossvit.checkpoints.tensors import assign, state_dict
from keras_crossvit.files import written_whole

SUFFIX = ".safetensors"


def load_checkpoint(model: Any, source: str | PathLike | Mapping[str, Any]) -> None:
    """Sets all weights of a CrossViT from a checkpoint by timm's names; either all are set or none.

    Args:
        model: A `CrossViT`.
        source: Path of a `.safetensors` file, or a mapping from timm's tensor names to arrays in timm's layout.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no safetensors file, or a tensor is missing, left over or wrongly shaped; both
            leftovers are listed and no weight has been changed.
    """
    if isinstance(source, Mapping):
        arrays = {name: np.asarray(array) for name, array in source.items()}
        assign(model, {name: array.shape for name, array in arrays.items()}, arrays.__getitem__, "The mapping")
        return
    path = _require_suffix(source)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint '{path}'; give the path of a {SUFFIX} file.")
    try:
        with safe_open(path, framework="numpy") as tensors:
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
            assign(model, shapes, tensors.get_tensor, f"'{path}'")
    except SafetensorError as error:
        raise ValueError(f"'{path}' is no whole safetensors file ({error}); fetch or write it again.") from error


def save_checkpoint(model: Any, target: str | PathLike | MutableMapping[str, Any]) -> None:
    """Writes all weights of a CrossViT by timm's names; a file is written whole or not at all.

    Args:
        model: A `CrossViT`.
        target: Path of a `.safetensors` file, which is replaced if it is there, or a mapping to fill. A file's
            metadata holds the model's configuration.

    Raises:
        ValueError: the path has another suffix.
        OSError: the file cannot be written; what stood there stands there still.
    """
    if isinstance(target, MutableMapping):
        target.update(state_dict(model))
        return
    metadata = {
        "format": "pt",  # what timm and transformers ask for before they read a file
        "keras_crossvit": json.dumps({"config": model.config.to_dict(), "pool": model.pool, "classes": model.classes}),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in state_dict(model).items()}
    with written_whole(_require_suffix(target)) as unfinished:
        save_file(arrays, os.fspath(unfinished), metadata=metadata)


def _require_suffix(path: str | PathLike) -> Path:
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"'{path}' does not end in {SUFFIX}; checkpoints by timm's names are {SUFFIX} files.")
    return path
