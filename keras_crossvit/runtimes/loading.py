"""The runtime of a file, chosen by what the file is called."""

from __future__ import annotations

import importlib
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.checks import resolve_threads
from keras_crossvit._internal.errors import InvalidValueError, MissingFileError
from keras_crossvit._internal.model_paths import CHECKPOINT_SUFFIXES, resolve_model_path, suffix_of
from keras_crossvit._internal.native_output import suppress_native_output
from keras_crossvit.runtimes.runtime import Runtime

# Module and class by suffix; a module is imported when its file comes, so that none needs the others' libraries.
_RUNTIMES = {
    ".tflite": ("litert", "LiteRTRuntime"),
    ".xml": ("openvino", "OpenVINORuntime"),
    ".onnx": ("onnx", "ONNXRuntime"),
    **dict.fromkeys(CHECKPOINT_SUFFIXES, ("keras_model", "KerasRuntime")),
}


def load_runtime(path: str | PathLike, *, threads: int | None = None) -> Runtime:
    """Loads a model, exported or of Keras, in the runtime that its suffix names.

    Args:
        path: A file that ends in `.tflite` (LiteRT), `.xml` with the `.bin` beside it (OpenVINO), `.onnx` (ONNX
            Runtime) or as a checkpoint that describes its model, such as `.keras` (Keras); the folder of a
            SavedModel, or of its versions, of which the newest is taken (TensorFlow); or that of a training run, of
            which the best model is taken.
        threads: Threads to compute with. Defaults to None: one for each processor.

    Returns:
        The runtime, which has `name`, `config`, `class_names` and `logits`.

    Raises:
        FileNotFoundError: nothing is there.
        ModuleNotFoundError: the runtime's library is not installed; the message says how to install it.
        ValueError: the path names no known format, or the file is broken or holds no CrossViT.
    """
    path, threads = resolve_model_path(path), resolve_threads(threads)
    if path.is_dir():
        module, name = "saved_model", "SavedModelRuntime"
        path = newest_version(path)
    else:
        module, name = _RUNTIMES[suffix_of(path, tuple(_RUNTIMES))]
        if not path.is_file():
            raise MissingFileError(f"There is no model '{path}'; give the path of a file.")
    runtime = getattr(importlib.import_module(f"keras_crossvit.runtimes.{module}"), name)
    return runtime(path, threads=threads)


def load_runtime_silently(path: str | PathLike, *, threads: int | None = None) -> Runtime:
    """What `load_runtime` loads, for commands: the notes of the runtime's library do not reach the terminal."""
    with suppress_native_output():
        return load_runtime(path, threads=threads)


def newest_version(folder: Path) -> Path:
    """The SavedModel in a folder: the folder itself, or the highest of its numbered versions.

    Raises:
        ValueError: there is none.
    """
    if (folder / "saved_model.pb").is_file():
        return folder
    versions = [each for each in folder.iterdir() if each.name.isdecimal() and (each / "saved_model.pb").is_file()]
    if not versions:
        raise InvalidValueError(
            f"'{folder}' is a folder without a SavedModel; name the folder that has a saved_model.pb."
        )
    return max(versions, key=lambda version: int(version.name))
