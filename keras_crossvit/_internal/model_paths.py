"""By what files of models are told apart; readable without importing Keras."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError, MissingFileError

WRITTEN_SUFFIXES = (".safetensors", ".pth", ".pth.tar", ".weights.h5", ".keras")
CHECKPOINT_SUFFIXES = (*WRITTEN_SUFFIXES, ".pt", ".ckpt", ".bin")  # the last as .pth
BEST_MODEL = "best.keras"  # in the folder of a training run, as the next one
RUN_SETTINGS = "config.json"
_MAX_SETTINGS_BYTES = 64 * 2**20  # most of which are class names
HUB_FILE = "model.safetensors"  # in the folder of a snapshot of the Hugging Face Hub, as the next one
_FILES_OF_MODELS = (BEST_MODEL, HUB_FILE, "pytorch_model.bin")


def suffix_of(path: str | PathLike, suffixes: Sequence[str] = CHECKPOINT_SUFFIXES) -> str:
    """The suffix by which a file is read and written.

    Args:
        path: Path of the file.
        suffixes: What it may be. Defaults to `CHECKPOINT_SUFFIXES`.

    Returns:
        One of `suffixes`.

    Raises:
        ValueError: the path ends otherwise.
    """
    for suffix in suffixes:
        if Path(path).name.endswith(suffix):
            return suffix
    raise InvalidValueError(f"'{path}' ends in none of {', '.join(suffixes)}; use one of them.")


def resolve_model_path(path: str | PathLike) -> Path:
    """The file of the weights in the folder of a training run (its best model) or of a hub's snapshot, or the path."""
    files = (Path(path) / name for name in _FILES_OF_MODELS)
    return next((file for file in files if file.is_file()), Path(path))


def read_run_settings(path: str | PathLike) -> dict[str, Any]:
    """The settings of the run in a folder.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: the settings are damaged.
    """
    config = Path(path) / RUN_SETTINGS
    if not config.is_file():
        raise MissingFileError(
            f"'{path}' holds no run, for there is no {RUN_SETTINGS}; give a folder written by train."
        )
    try:
        if config.stat().st_size > _MAX_SETTINGS_BYTES:
            raise InvalidValueError(f"it has more than {_MAX_SETTINGS_BYTES} bytes")
        settings = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(
            f"'{config}' holds no settings of a run ({error}); put back what train has written."
        ) from error
    if not isinstance(settings, dict):
        raise InvalidValueError(
            f"'{config}' holds no settings of a run but a {type(settings).__name__}; put back what train has written."
        )
    return settings
