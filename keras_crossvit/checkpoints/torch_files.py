"""Reads PyTorch's files without executing anything in them."""

from __future__ import annotations

import argparse
import contextlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError, first_line
from keras_crossvit._internal.optional import require_library
from keras_crossvit.checkpoints.archives import require_moderate_size

# Where training scripts put the weights, in order of preference. An EMA of the weights comes first, as in
# timm.models.load_state_dict. The last two are from PyTorch's tutorials, and from timm's EMA and DeepSpeed.
_NESTING_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "module")
_AVERAGED_MODELS = "n_averaged"  # the counter of torch.optim.swa_utils.AveragedModel, beside the weights
_DEEPEST_NESTING = 2  # a script's checkpoint that has an EMA with its decay


def require_torch() -> Any:
    """Imports PyTorch, or raises ImportError with the command that installs it."""
    return require_library("torch", "torch", otherwise="use a .safetensors file")


def is_torch_file(path: Path) -> bool:
    """Returns whether a file starts like one of `torch.save`: a pickle, or a zip file with a pickle."""
    with path.open("rb") as file:
        is_pickle = file.read(2) in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    return is_pickle or _has_member(path, "data.pkl")


def read_torch_file(path: Path) -> Any:
    """Returns the content of a `torch.save` file, with tensors on the CPU.

    Raises:
        ImportError: PyTorch is not installed.
        ValueError: the file is broken, or has more than plain data.
    """
    torch = require_torch()
    if _has_member(path, "constants.pkl"):
        raise InvalidValueError(f"'{path}' is a TorchScript program, which is not run; save the model's state_dict.")
    # The authors' training script saves its arguments beside the weights, which are plain values.
    with torch.serialization.safe_globals([argparse.Namespace]), path.open("rb") as file:
        try:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    require_moderate_size(archive)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InvalidValueError(
                f"'{path}' is broken or has more than weights{_unsafe_names(torch, path, error)}. It is not read, "
                "because that could run code; save only the model's state_dict."
            ) from error
        except Exception as error:  # PyTorch may raise anything, depending on where the file is broken
            raise InvalidValueError(
                f"'{path}' is a broken PyTorch file ({first_line(error)}); get it again."
            ) from error


def state_dict_in(content: Any, label: str) -> Mapping[str, Any]:
    """Returns the mapping from names to tensors in what a training script saved.

    Raises:
        ValueError: there is none.
    """
    for _ in range(_DEEPEST_NESTING):
        if isinstance(content, Mapping):
            content = next((content[key] for key in _NESTING_KEYS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping):
        raise InvalidValueError(f"{label} has no mapping from names to tensors; save the model's state_dict in it.")
    if _AVERAGED_MODELS in content:
        return {name: value for name, value in content.items() if name != _AVERAGED_MODELS}
    return content


def require_stored(weights: Mapping[str, Any], label: str) -> None:
    """Raises ValueError if PyTorch tensors of a file have more values than it holds.

    A tensor may repeat a few stored values to any shape, so a small file could ask for a vast model.
    """
    torch = require_torch()
    tensors = {
        name: each
        for name, each in weights.items()
        if torch.is_tensor(each) and each.layout == torch.strided and not each.is_meta
    }
    storages = [each.untyped_storage() for each in tensors.values()]
    stored = sum({each.data_ptr(): each.nbytes() for each in storages}.values())
    if (declared := sum(each.nbytes for each in tensors.values())) > stored:
        largest = max(tensors, key=lambda name: tensors[name].nbytes)
        raise InvalidValueError(
            f"{label} has tensors of {declared:,} bytes in all (the largest is {largest}), but holds only {stored:,}; "
            "save a state_dict whose tensors do not share values."
        )


def _has_member(path: Path, name: str) -> bool:
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:  # which may raise anything if it is broken
        return any(Path(member).name == name for member in archive.namelist())
    return False


def _unsafe_names(torch: Any, path: Path, error: Exception) -> str:
    """Returns in brackets what `weights_only` refuses, if PyTorch can tell."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not a zip file, or broken; the names are only an addition to an error
        names = re.findall(r"GLOBAL ([\w.]+)", str(error))[:1]
    return f" ({', '.join(sorted(names)[:3])})" if names else ""
