"""Checkpoints on disk, read into a model and written from one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.model_paths import WRITTEN_SUFFIXES, suffix_of
from keras_crossvit.checkpoints.adaptation import LoadResult, adapt, take_class_names
from keras_crossvit.checkpoints.reading import METADATA_KEY, open_checkpoint
from keras_crossvit.checkpoints.tensors import assign, state_dict
from keras_crossvit.checkpoints.torch_files import require_torch
from keras_crossvit.models.config import config_of


def load_checkpoint(
    model: Any,
    source: str | PathLike | Mapping[str, Any],
    *,
    adapt_head: bool = False,
    adapt_positions: bool = False,
    adapt_channels: bool = False,
    allow_nonfinite: bool = False,
) -> LoadResult:
    """Sets all weights of a CrossViT from a checkpoint by timm's names; either all are set or none.

    Nothing in a file is executed. A model without class names takes those that its new head brings along.

    Args:
        model: A `CrossViT`.
        source: Path of a safetensors file or of one of PyTorch's, which are known by their content (`.pth`, `.pt`,
            `.ckpt`, `.bin` and others), by timm's or the authors' names, or of a `.weights.h5` or `.keras`; a training
            run's folder, for its best model; or a mapping from timm's tensor names to arrays in timm's layout, which
            may be those of PyTorch, TensorFlow, JAX or Keras. A prefix of a training framework that all names share,
            such as "model.", is left out.
        adapt_head: Whether a head of other classes is left out; the model's own head stays as it is. Defaults to
            False, which makes other classes an error.
        adapt_positions: Whether position embeddings for another image size are resized bicubically, as timm's
            `resample_abs_pos_embed` does. A `.safetensors` of one's own and a `.keras` say their grid of patches; that
            of other sources is taken for a square one. Defaults to False.
        adapt_channels: Whether the first convolutions are made for another number of image channels, as timm's
            `adapt_input_conv` does. Defaults to False.
        allow_nonfinite: Whether weights may be NaN or infinite, or become so in the model's dtype. Defaults to False,
            which makes them an error.

    Returns:
        A report; printed, it is one line for the tensors kept, and one for a prefix left out, for each conversion from
        another dtype and for each adaptation.

    Raises:
        TypeError: the model is no `CrossViT`.
        FileNotFoundError: there is no such file.
        ImportError: a `.pth` file needs PyTorch, which is not installed.
        ValueError: the file is broken, or does not fit: the message names the keyword that would make it fit, or
            lists the tensors that are missing, left over, wrongly shaped, for one weight, not floats or not finite. No
            weight has been changed.
    """
    config_of(model)
    requests = {"adapt_head": adapt_head, "adapt_positions": adapt_positions, "adapt_channels": adapt_channels}
    with open_checkpoint(source, model.config, model) as checkpoint:
        adapted, report = adapt(checkpoint, model, **requests)
        assign(model, adapted, skipped=report.skipped, allow_nonfinite=allow_nonfinite)
        take_class_names(model, checkpoint, report)
    return report


def save_checkpoint(model: Any, target: str | PathLike | MutableMapping[str, Any]) -> None:
    """Writes all weights of a CrossViT; a file is written whole or not at all.

    Args:
        model: A `CrossViT`.
        target: Path that ends in `.safetensors` or `.pth` (timm's names and layout, which timm loads as they are),
            `.weights.h5` or `.keras`, and is replaced if it is there; or a mapping to fill by timm's names. The
            metadata of a `.safetensors` file describes the model, so that `load_model` needs nothing else.

    Raises:
        TypeError: the model is no `CrossViT`.
        ValueError: the path ends otherwise; or the model has been quantized by Keras, which `.keras` and `.weights.h5`
            alone can hold.
        ImportError: a `.pth` file needs PyTorch, which is not installed.
        OSError: the file cannot be written; what stood there stands there still.
    """
    config_of(model)
    if isinstance(target, MutableMapping):
        target.update(state_dict(model))
        return
    write = _WRITERS[suffix_of(target, WRITTEN_SUFFIXES)]
    with atomic_write(target) as unfinished:
        write(model, unfinished)


def _write_safetensors(model: Any, path: Path) -> None:
    metadata = {
        "format": "pt",  # what timm and transformers ask for before they read a file
        METADATA_KEY: json.dumps(model.get_config()),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in state_dict(model).items()}
    path.touch()
    mode = path.stat().st_mode
    save_file(arrays, os.fspath(path), metadata=metadata)
    path.chmod(mode)  # safetensors lets no one but the owner read; give the file the rights of any other new one


def _write_torch(model: Any, path: Path) -> None:
    torch = require_torch()
    torch.save({name: _torch_tensor(torch, array) for name, array in state_dict(model).items()}, path)


def _torch_tensor(torch: Any, array: np.ndarray) -> Any:
    if array.dtype.name == "bfloat16":  # which NumPy has from elsewhere, and PyTorch does not know there
        return torch.tensor(np.ascontiguousarray(array, "float32")).to(torch.bfloat16)
    return torch.tensor(np.ascontiguousarray(array))


def _write_keras_weights(model: Any, path: Path) -> None:
    model.save_weights(path)


def _write_keras_model(model: Any, path: Path) -> None:
    model.save(path)


_WRITERS = {
    ".safetensors": _write_safetensors,
    ".pth": _write_torch,
    ".pth.tar": _write_torch,  # no archive: how timm's training script names its files
    ".weights.h5": _write_keras_weights,
    ".keras": _write_keras_model,
}
