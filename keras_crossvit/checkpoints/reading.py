"""Checkpoints as they lie on disk, each opened as a mapping from timm's names to tensors in timm's layout."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from keras_crossvit.checkpoints.keras_files import read_keras_model, read_keras_weights
from keras_crossvit.checkpoints.messages import first_line
from keras_crossvit.checkpoints.names import timm_spelling
from keras_crossvit.checkpoints.tensors import state_dict
from keras_crossvit.optional import require_library
from keras_crossvit.suffixes import file_of_model, suffix_of

METADATA_KEY = "keras_crossvit"
# Where the authors' and timm's training scripts put the weights. As timm.models.load_state_dict does, the running mean
# is taken where there is one.
_NESTING_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An open source of weights.

    Args:
        label: What messages call it.
        shapes: Shapes of the tensors by timm's names.
        read: Gives the tensor of a name.
        model_config: What `CrossViT.get_config` said of the model that was saved. Defaults to None: the source does
            not say.
    """

    label: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    model_config: Mapping[str, Any] | None = None


@contextlib.contextmanager
def open_checkpoint(source: str | PathLike | Mapping[str, Any], model: Any) -> Iterator[Checkpoint]:
    """Opens a file by its suffix, or a mapping.

    Args:
        source: Path of a file that ends in one of `CHECKPOINT_SUFFIXES`, folder of a training run, or a mapping from
            timm's names to arrays.
        model: The `CrossViT` that the weights are for; a `.weights.h5` file says too little about itself.

    Yields:
        The checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is broken, or of another kind than its suffix says.
        ImportError: a `.pth` file needs PyTorch, which is not installed.
    """
    if isinstance(source, Mapping):
        yield _from_arrays("The mapping", {name: np.asarray(array) for name, array in source.items()})
        return
    path = require_file(source)
    match suffix_of(path):
        case ".safetensors":
            with _open_safetensors(path) as checkpoint:
                yield checkpoint
        case ".pth" | ".pth.tar":
            yield _from_arrays(f"'{path}'", _torch_arrays(path))
        case ".keras":
            stored = read_keras_model(path)
            yield _from_arrays(f"'{path}'", state_dict(stored), stored.get_config())
        case ".weights.h5":
            yield _from_arrays(f"'{path}'", state_dict(read_keras_weights(path, model)))


def require_file(path: str | PathLike) -> Path:
    """The path, if a checkpoint lies there, or that of the best model if it is the folder of a training run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the path ends in no suffix of a checkpoint.
    """
    path = file_of_model(path)
    suffix_of(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint '{path}'; give the path of a file.")
    return path


def require_torch() -> Any:
    """The PyTorch package, which `.pth` files alone need.

    Raises:
        ModuleNotFoundError: it is not installed; the message has the command that installs it.
    """
    return require_library("torch", "torch", otherwise="use a .safetensors file")


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
        raise ValueError(f"'{path}' is no whole safetensors file ({error}); fetch or write it again.") from error


@contextlib.contextmanager
def _open_safetensors(path: Path) -> Iterator[Checkpoint]:
    with _safetensors(path) as tensors:
        stored_names = {timm_spelling(name): name for name in tensors.keys()}  # noqa: SIM118
        yield Checkpoint(
            label=f"'{path}'",
            shapes={name: tuple(tensors.get_slice(stored).get_shape()) for name, stored in stored_names.items()},
            read=lambda name: tensors.get_tensor(stored_names[name]),
            model_config=_model_config(tensors, path),
        )


def _model_config(tensors: Any, path: Path) -> dict[str, Any] | None:
    text = (tensors.metadata() or {}).get(METADATA_KEY)
    if text is None:
        return None
    with contextlib.suppress(json.JSONDecodeError):
        description = json.loads(text)
        if isinstance(description, dict) and isinstance(description.get("config"), dict):
            return description
    raise ValueError(
        f"'{path}' describes its model in metadata that are damaged ({METADATA_KEY}: {text[:60]!r}); write the file "
        "again by save_checkpoint()."
    )


def _from_arrays(label: str, arrays: Mapping[str, np.ndarray], model_config: Any = None) -> Checkpoint:
    arrays = {timm_spelling(name): array for name, array in arrays.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    return Checkpoint(label=label, shapes=shapes, read=arrays.__getitem__, model_config=model_config)


def _torch_arrays(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a PyTorch file, of which nothing is executed: `weights_only` refuses all but plain data."""
    torch = require_torch()
    try:
        # The authors' training script saves its command line beside the weights: a plain bag of values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"'{path}' is broken or holds more than weights, and is not read, since that could run code; save the "
            "model's state_dict alone."
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"'{path}' is no whole PyTorch file ({first_line(error)}); fetch it again.") from error
    tensors = _state_dict_in(content)
    if not tensors or not all(torch.is_tensor(tensor) for tensor in tensors.values()):
        raise ValueError(f"'{path}' holds no mapping from names to tensors; save the model's state_dict in it.")
    return {name: tensor.detach().to(torch.float32).numpy() for name, tensor in tensors.items()}


def _state_dict_in(content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        return {}
    nested = next((content[key] for key in _NESTING_KEYS if isinstance(content.get(key), Mapping)), content)
    return dict(nested)
