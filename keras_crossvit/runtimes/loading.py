"""Loads a model file in the runtime of its format."""

from __future__ import annotations

import contextlib
import glob
import importlib
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.checks import resolve_threads
from keras_crossvit._internal.errors import InvalidValueError, MissingFileError
from keras_crossvit._internal.files import UNFINISHED
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.model_paths import CHECKPOINT_SUFFIXES, resolve_model_path, suffix_of
from keras_crossvit._internal.native_output import suppress_native_output
from keras_crossvit.runtimes.formats import FORMAT_OF_SUFFIX, FORMATS
from keras_crossvit.runtimes.runtime import Runtime


@known_keywords_only
def load_runtime(
    path: str | PathLike[str], *, threads: int | None = None, quiet: bool = False, allow_any_operation: bool = False
) -> Runtime:
    """Loads an exported or Keras model in the runtime of its format.

    Args:
        path: A `.tflite` (LiteRT), `.xml` (OpenVINO, with the `.bin` beside it) or `.onnx` file (ONNX Runtime); a
            checkpoint that describes its model, such as a `.keras` file (Keras); the folder of a SavedModel or of its
            versions, of which the newest is loaded (TensorFlow); or the folder of a training run, of which the best
            model is loaded.
        threads: Threads to compute with. Defaults to None: one per processor.
        quiet: Whether to hide what the runtime's library prints while it loads. If loading fails, the exception has it
            as a note. Defaults to False.
        allow_any_operation: Whether a SavedModel may have operations that this package's exports do not have. They can
            read and write files, so this is for files from those whose programs you would run. Defaults to False.

    Returns:
        The runtime. Only that of a checkpoint imports Keras.

    Raises:
        FileNotFoundError: the path does not exist.
        ModuleNotFoundError: the runtime's library is not installed; the message says how to install it.
        ValueError: the suffix is unknown, the file is damaged or not a CrossViT, or a SavedModel has other operations.
    """
    path, options = resolve_model_path(path), {"threads": resolve_threads(threads)}
    if path.is_dir():
        path, module, name = newest_version(path), "saved_model", FORMATS["saved_model"].runtime
        options["allow_any_operation"] = allow_any_operation
    elif not path.is_file():
        raise MissingFileError(f"There is no model '{path}'; {_remedy_for_missing(path)}.")
    else:
        suffix = suffix_of(path, (*FORMAT_OF_SUFFIX, *CHECKPOINT_SUFFIXES))
        found = FORMAT_OF_SUFFIX.get(suffix)
        module, name = (found.name, found.runtime) if found else ("keras_model", "KerasRuntime")
    # A module is imported when a file needs it, so that none needs the libraries of the others.
    runtime = getattr(importlib.import_module(f"keras_crossvit.runtimes.{module}"), name)
    with suppress_native_output() if quiet else contextlib.nullcontext():
        return runtime(path, **options)


def _remedy_for_missing(path: Path) -> str:
    """Returns what to do, also after an export that was killed between moving old files away and new ones here."""
    for file in path.parent.glob(f"{UNFINISHED}*/**/{glob.escape(path.name)}"):
        return f"an export to it was killed, and its files are in '{file.parent}': export again, or move them here"
    return "check the path"


def numbered_versions(folder: Path) -> list[Path]:
    """Returns the entries of a folder whose names are version numbers, in order."""
    return sorted((each for each in folder.glob("*") if each.name.isdecimal()), key=lambda each: int(each.name))


def newest_version(folder: Path) -> Path:
    """Returns the folder itself if it is a SavedModel, or the highest of its versions, or raises ValueError."""
    found = [each for each in (*numbered_versions(folder), folder) if (each / "saved_model.pb").is_file()]
    if not found:
        raise InvalidValueError(f"'{folder}' is a folder without a SavedModel; pass the one with saved_model.pb.")
    return found[-1]
