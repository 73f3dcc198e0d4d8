"""By what files of models are told apart; readable without importing Keras."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pth.tar", ".weights.h5", ".keras")
BEST_MODEL = "best.keras"  # in the folder of a training run


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


def file_of_model(path: str | PathLike) -> Path:
    """The best model's file where the path is the folder of a training run, else the path as it is."""
    best = Path(path) / BEST_MODEL
    return best if best.is_file() else Path(path)
