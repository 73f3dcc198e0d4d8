"""Names and suffixes of model files and run folders; importable without Keras."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError, MissingFileError
from keras_crossvit._internal.stored_json import read_json

WRITTEN_SUFFIXES = (".safetensors", ".pth", ".pth.tar", ".weights.h5", ".keras")
CHECKPOINT_SUFFIXES = (*WRITTEN_SUFFIXES, ".pt", ".ckpt", ".bin")  # the last three as .pth
BEST_MODEL = "best.keras"  # in a run folder
RUN_SETTINGS = "config.json"  # in a run folder
HUB_FILE = "model.safetensors"  # in a snapshot folder of the Hugging Face Hub
MODEL_FILES = (BEST_MODEL, HUB_FILE, "pytorch_model.bin")


def suffix_of(path: str | PathLike, suffixes: Sequence[str] = CHECKPOINT_SUFFIXES) -> str:
    """Returns the one of `suffixes` that a path ends in.

    Raises:
        InvalidValueError: the path ends in none of them.
    """
    for suffix in suffixes:
        if Path(path).name.endswith(suffix):
            return suffix
    if Path(path).suffix == ".h5" and ".keras" in suffixes:
        raise InvalidValueError(
            f"'{path}' ends in .h5, Keras' legacy format; use .keras or .weights.h5. A model in such a file loads with "
            "keras.saving.load_model(file, custom_objects={'CrossViT': keras_crossvit.CrossViT})."
        )
    raise InvalidValueError(f"'{path}' ends in none of {', '.join(suffixes)}; use one of them.")


def resolve_model_path(path: str | PathLike) -> Path:
    """Returns the weights file of a run folder (its best model) or of a hub snapshot; any other path is unchanged."""
    files = (Path(path) / name for name in MODEL_FILES)
    return next((file for file in files if file.is_file()), Path(path))


def read_run_settings(path: str | PathLike) -> dict[str, Any]:
    """Returns the settings of the run in a folder.

    Raises:
        MissingFileError: the folder has no run settings.
        InvalidValueError: the settings are damaged.
    """
    file = Path(path) / RUN_SETTINGS
    if not file.is_file():
        raise MissingFileError(f"'{path}' has no {RUN_SETTINGS}; give a folder written by train.")
    return read_json(file, {str: Any}, "restore the file that train wrote")
