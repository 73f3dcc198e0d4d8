"""Runs SavedModels with TensorFlow, without Keras."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from keras_crossvit._internal.optional import require_library
from keras_crossvit._internal.stored_json import MAX_BYTES
from keras_crossvit.runtimes.metadata import Metadata
from keras_crossvit.runtimes.runtime import INPUT_NAMES, SIGNATURE, Runtime, refused_if_damaged
from keras_crossvit.runtimes.saved_model_operations import require_known_operations

_KIND = "SavedModel"
METADATA_FILE = Path("assets.extra", "keras_crossvit.json")  # TensorFlow ignores files in assets.extra


class SavedModelRuntime(Runtime):
    """Runs the signature `serving_default` of a SavedModel.

    Args:
        path: The folder with saved_model.pb.
        threads: Threads to compute with, unless TensorFlow has computed something before.
        allow_any_operation: Whether operations that this package's exports do not have are allowed. Defaults to False.
    """

    name = "TensorFlow"

    def __init__(self, path: Path, *, threads: int, allow_any_operation: bool = False) -> None:
        file = path / METADATA_FILE
        super().__init__(Metadata.from_json(_start_of(file) if file.is_file() else None, path))
        self._tensorflow = require_library("tensorflow")
        if not allow_any_operation:
            require_known_operations(path)
        limit_tensorflow_threads(threads)
        self._path = path
        with refused_if_damaged(path, _KIND):
            self._model = self._tensorflow.saved_model.load(str(path))
            self._signature = self._model.signatures[SIGNATURE]

    def _run(self, images: list[np.ndarray]) -> dict[str, np.ndarray]:
        tensors = {name: self._tensorflow.constant(image) for name, image in zip(INPUT_NAMES, images, strict=True)}
        with refused_if_damaged(self._path, _KIND):
            return {name: output.numpy() for name, output in self._signature(**tensors).items()}


def _start_of(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(MAX_BYTES + 1)


def limit_tensorflow_threads(threads: int) -> None:
    """Sets TensorFlow's number of threads, unless it has computed something and so fixed it."""
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
