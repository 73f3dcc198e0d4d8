"""By what files of models are told apart; readable without importing Keras."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

WRITTEN_SUFFIXES = (".safetensors", ".pth", ".pth.tar", ".weights.h5", ".keras")
CHECKPOINT_SUFFIXES = (*WRITTEN_SUFFIXES, ".pt", ".ckpt", ".bin")  # the last as .pth
BEST_MODEL = "best.keras"  # in the folder of a training run
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
    raise ValueError(f"'{path}' ends in none of {', '.join(suffixes)}; use one of them.")


def resolve_model_path(path: str | PathLike) -> Path:
    """The file of the weights in the folder of a training run (its best model) or of a hub's snapshot, or the path."""
    files = (Path(path) / name for name in _FILES_OF_MODELS)
    return next((file for file in files if file.is_file()), Path(path))
