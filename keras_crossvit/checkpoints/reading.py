"""Checkpoints as they lie on disk, each opened as a mapping from timm's names to tensors in timm's layout."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from keras_crossvit._internal.errors import InvalidValueError, MissingFileError
from keras_crossvit._internal.model_paths import resolve_model_path, suffix_of
from keras_crossvit.checkpoints.checkpoint import Checkpoint, Tensor, checkpoint_of, tensors_in
from keras_crossvit.checkpoints.keras_files import read_keras_model, read_keras_weights
from keras_crossvit.checkpoints.tensors import state_dict
from keras_crossvit.checkpoints.torch_files import is_torch_file, read_torch_file, state_dict_in
from keras_crossvit.models.config import CrossViTConfig

METADATA_KEY = "keras_crossvit"
_SAFETENSORS_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@contextlib.contextmanager
def open_checkpoint(
    source: str | PathLike | Mapping[str, Any], config: CrossViTConfig, model: Any = None
) -> Iterator[Checkpoint]:
    """Opens a file or a mapping.

    Args:
        source: Path of a file, folder of a training run, or a mapping from timm's names to arrays.
        config: Architecture of the CrossViT that the weights are for.
        model: The CrossViT itself, for a `.weights.h5` file, which says too little about itself. Defaults to None.

    Yields:
        The checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is broken or of another kind, has two tensors for one weight, or weights that are not
            floats.
        ImportError: a file of PyTorch's needs PyTorch, which is not installed.
    """
    if isinstance(source, Mapping):
        yield _from_mapping("The mapping", source, config)
        return
    path = require_file(source)
    match format_of(path):
        case ".safetensors":
            with _open_safetensors(path, config) as checkpoint:
                yield checkpoint
        case ".keras":
            stored = read_keras_model(path)
            yield _from_mapping(f"'{path}'", state_dict(stored), config, stored.get_config())
        case ".weights.h5":
            yield _from_mapping(f"'{path}'", state_dict(read_keras_weights(path, model)), config)
        case _:
            yield _from_mapping(f"'{path}'", read_torch_file(path), config)


def require_file(path: str | PathLike) -> Path:
    """The path, if a file lies there, or that of the weights in the folder of a training run or of a hub's snapshot.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is none, and the path ends in no suffix of a checkpoint.
    """
    path = resolve_model_path(path)
    if not path.is_file():
        suffix_of(path)
        raise MissingFileError(f"There is no checkpoint '{path}'; give the path of a file.")
    return path


def format_of(path: Path) -> str:
    """The suffix that a file's format has: Keras' own by their names, as Keras itself, others by their content.

    Raises:
        ValueError: the file is none that is read.
    """
    if path.name.endswith((".keras", ".weights.h5")):
        return suffix_of(path)
    with path.open("rb") as file:
        if file.read(9)[8:] == b"{":  # after the length of its header
            return ".safetensors"
    return ".pth" if is_torch_file(path) else suffix_of(path)


def read_metadata(path: Path) -> dict[str, Any] | None:
    """What a safetensors file says of the model that was saved in it, or None if it says nothing."""
    with _safetensors(path) as tensors:
        return _model_config(tensors, path)


@contextlib.contextmanager
def _safetensors(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as tensors:
            yield tensors
    except SafetensorError as error:
        raise InvalidValueError(f"'{path}' is no whole safetensors file ({error}); fetch or write it again.") from error


@contextlib.contextmanager
def _open_safetensors(path: Path, config: CrossViTConfig) -> Iterator[Checkpoint]:
    with _safetensors(path) as stored:
        tensors = [_safetensors_tensor(stored, name) for name in stored.keys()]  # noqa: SIM118
        yield checkpoint_of(f"'{path}'", tensors, config, _model_config(stored, path))


def _safetensors_tensor(stored: Any, name: str) -> Tensor:
    header = stored.get_slice(name)
    dtype = header.get_dtype()
    return Tensor(
        name=name,
        shape=tuple(header.get_shape()),
        dtype=_SAFETENSORS_DTYPES.get(dtype, dtype),
        read=lambda: stored.get_tensor(name),
    )


def _model_config(tensors: Any, path: Path) -> dict[str, Any] | None:
    text = (tensors.metadata() or {}).get(METADATA_KEY)
    if text is None:
        return None
    with contextlib.suppress(json.JSONDecodeError):
        description = json.loads(text)
        if isinstance(description, dict) and isinstance(description.get("config"), dict):
            return description
    raise InvalidValueError(
        f"'{path}' describes its model in metadata that are damaged ({METADATA_KEY}: {text[:60]!r}); write the file "
        "again by save_checkpoint()."
    )


def _from_mapping(label: str, content: Any, config: CrossViTConfig, model_config: Any = None) -> Checkpoint:
    return checkpoint_of(label, tensors_in(label, state_dict_in(content, label)), config, model_config)
