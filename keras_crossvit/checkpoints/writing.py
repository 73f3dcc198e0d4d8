"""Writes checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import MutableMapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.model_paths import WRITTEN_SUFFIXES, suffix_of
from keras_crossvit.checkpoints.reading import METADATA_KEY
from keras_crossvit.checkpoints.tensors import state_dict
from keras_crossvit.checkpoints.torch_files import require_torch
from keras_crossvit.models.config import config_of


@known_keywords_only
def save_checkpoint(model: Any, target: str | PathLike | MutableMapping[str, Any]) -> None:
    """Writes all weights of a CrossViT, atomically if to a file.

    Args:
        model: A `CrossViT`.
        target: Path that ends with `.safetensors` or `.pth` (timm's names and layout, which timm loads), `.weights.h5`
            or `.keras`; an existing file is replaced. Or a mapping to fill. A `.safetensors` file also describes the
            model, so that `load_model` needs nothing else.

    Raises:
        TypeError: the model is not a `CrossViT`.
        ValueError: the suffix is unknown, or the model was quantized by Keras, which only `.keras` and `.weights.h5`
            can store.
        ImportError: a `.pth` file needs PyTorch, which is not installed.
        OSError: the file cannot be written; an existing one is unchanged.
    """
    config_of(model)
    if isinstance(target, MutableMapping):
        target.update(state_dict(model))
        return
    suffix = suffix_of(target, WRITTEN_SUFFIXES)
    with atomic_write(target) as path:
        if suffix == ".safetensors":
            _write_safetensors(model, path)
        elif suffix == ".weights.h5":
            model.save_weights(path)
        elif suffix == ".keras":
            model.save(path)
        else:
            _write_torch(model, path)


def _write_safetensors(model: Any, path: Path) -> None:
    metadata = {
        "format": "pt",  # timm and transformers require it
        METADATA_KEY: json.dumps(model.get_config()),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in state_dict(model).items()}
    path.touch()
    mode = path.stat().st_mode
    save_file(arrays, os.fspath(path), metadata=metadata)
    path.chmod(mode)  # safetensors lets only the owner read; use the permissions of any other new file


def _write_torch(model: Any, path: Path) -> None:
    torch = require_torch()
    torch.save({name: _torch_tensor(torch, array) for name, array in state_dict(model).items()}, path)


def _torch_tensor(torch: Any, array: np.ndarray) -> Any:
    if array.dtype.name == "bfloat16":  # PyTorch does not know NumPy's
        return torch.tensor(np.ascontiguousarray(array, "float32")).to(torch.bfloat16)
    return torch.tensor(np.ascontiguousarray(array))
