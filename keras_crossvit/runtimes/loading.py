"""Loads a model file in the runtime of its format."""

from __future__ import annotations

import contextlib
import importlib
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.checks import resolve_threads
from keras_crossvit._internal.errors import InvalidValueError, MissingFileError
from keras_crossvit._internal.model_paths import CHECKPOINT_SUFFIXES, resolve_model_path, suffix_of
from keras_crossvit._internal.native_output import suppress_native_output
from keras_crossvit.runtimes.formats import FORMAT_OF_SUFFIX, FORMATS
from keras_crossvit.runtimes.runtime import Runtime


def load_runtime(path: str | PathLike[str], *, threads: int | None = None, quiet: bool = False) -> Runtime:
    """Loads an exported or Keras model in the runtime of its format.

    Args:
        path: A `.tflite` (LiteRT), `.xml` (OpenVINO, with the `.bin` beside it) or `.onnx` file (ONNX Runtime); a
            checkpoint that describes its model, such as a `.keras` file (Keras); the folder of a SavedModel or of its
            versions, of which the newest is loaded (TensorFlow); or the folder of a training run, of which the best
            model is loaded.
        threads: Threads to compute with. Defaults to None: one per processor.
        quiet: Whether to hide what the runtime's library prints while it loads. If loading fails, the exception has it
            as a note. Defaults to False.

    Returns:
        The runtime. Only that of a checkpoint imports Keras.

    Raises:
        FileNotFoundError: the path does not exist.
        ModuleNotFoundError: the runtime's library is not installed; the message says how to install it.
        ValueError: the suffix is unknown, or the file is damaged or not a CrossViT.
    """
    path, threads = resolve_model_path(path), resolve_threads(threads)
    if path.is_dir():
        path, module, name = newest_version(path), "saved_model", FORMATS["saved_model"].runtime
    else:
        suffix = suffix_of(path, (*FORMAT_OF_SUFFIX, *CHECKPOINT_SUFFIXES))
        found = FORMAT_OF_SUFFIX.get(suffix)
        module, name = (found.name, found.runtime) if found else ("keras_model", "KerasRuntime")
        if not path.is_file():
            raise MissingFileError(f"There is no model '{path}'; check the path.")
    # A module is imported when a file needs it, so that none needs the libraries of the others.
    runtime = getattr(importlib.import_module(f"keras_crossvit.runtimes.{module}"), name)
    with suppress_native_output() if quiet else contextlib.nullcontext():
        return runtime(path, threads=threads)


def numbered_versions(folder: Path) -> list[Path]:
    """Returns the entries of a folder whose names are version numbers, in order."""
    return sorted((each for each in folder.glob("*") if each.name.isdecimal()), key=lambda each: int(each.name))


def newest_version(folder: Path) -> Path:
    """Returns the folder itself if it is a SavedModel, or the highest of its versions, or raises ValueError."""
    found = [each for each in (*numbered_versions(folder), folder) if (each / "saved_model.pb").is_file()]
    if not found:
        raise InvalidValueError(f"'{folder}' is a folder without a SavedModel; pass the one with saved_model.pb.")
    return found[-1]
