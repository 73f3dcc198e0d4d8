"""PyTorch's files, of which nothing is executed."""

from __future__ import annotations

import argparse
import contextlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError, first_line
from keras_crossvit._internal.optional import require_library

# Where training scripts put the weights, first to last. As timm.models.load_state_dict does, the EMA of the weights is
# taken where there is one. The last two are of PyTorch's tutorials, and of timm's EMA and DeepSpeed.
_NESTING_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "module")
# What PyTorch raises of damaged files, beside `pickle.UnpicklingError`; found by changing bytes of them.
_DAMAGE = (RuntimeError, EOFError, OSError, LookupError, TypeError, ValueError, AttributeError, AssertionError)
_DEEPEST_NESTING = 2  # a script's checkpoint, and in it an EMA with its decay


def require_torch() -> Any:
    """The PyTorch package, which its own files alone need.

    Raises:
        ModuleNotFoundError: it is not installed; the message has the command that installs it.
    """
    return require_library("torch", "torch", otherwise="use a .safetensors file")


def is_torch_file(path: Path) -> bool:
    """Whether a whole file begins as `torch.save` begins one, whatever its name: a pickle, or a zip file with one."""
    with path.open("rb") as file:
        is_pickle = file.read(2) in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    return is_pickle or any(Path(member).name == "data.pkl" for member in _members(path))


def read_torch_file(path: Path) -> Any:
    """What `torch.save` wrote, with all tensors on the CPU; `weights_only` refuses all but plain data.

    Raises:
        ModuleNotFoundError: PyTorch is not installed.
        ValueError: the file is broken or holds more than plain data.
    """
    torch = require_torch()
    if any(Path(member).name == "constants.pkl" for member in _members(path)):
        raise InvalidValueError(
            f"'{path}' is a program of TorchScript and is not run; save the model's state_dict instead."
        )
    # The authors' training script saves its command line beside the weights: a plain bag of values.
    with torch.serialization.safe_globals([argparse.Namespace]), path.open("rb") as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InvalidValueError(
                f"'{path}' is broken or holds more than weights{_strangers(torch, path)}, and is not read, since that "
                "could run code; save the model's state_dict alone."
            ) from error
        except _DAMAGE as error:
            raise InvalidValueError(
                f"'{path}' is no whole PyTorch file ({first_line(error)}); fetch it again."
            ) from error


def state_dict_in(content: Any, label: str) -> Mapping[str, Any]:
    """The mapping from names to tensors in what a training script saved.

    Raises:
        ValueError: there is none.
    """
    for _ in range(_DEEPEST_NESTING):
        if isinstance(content, Mapping):
            content = next((content[key] for key in _NESTING_KEYS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping):
        raise InvalidValueError(f"{label} holds no mapping from names to tensors; save the model's state_dict in it.")
    return content


def _members(path: Path) -> list[str]:
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        return archive.namelist()
    return []


def _strangers(torch: Any, path: Path) -> str:
    """In brackets, what `weights_only` refuses; only of zip files can it be told."""
    if not _members(path):
        return ""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError, LookupError, EOFError, pickle.UnpicklingError):
        return ""
    return f" ({', '.join(sorted(names)[:3])})" if names else ""
