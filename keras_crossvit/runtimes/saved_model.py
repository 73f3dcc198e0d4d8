"""SavedModels, run by TensorFlow without Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.optional import require_library
from keras_crossvit.runtimes.metadata import Metadata
from keras_crossvit.runtimes.runtime import INPUT_NAMES, OUTPUT_NAME, SIGNATURE, Runtime, limit_tensorflow_threads

METADATA_FILE = Path("assets.extra", "keras_crossvit.json")  # assets.extra is for files that TensorFlow leaves alone


class SavedModelRuntime(Runtime):
    """Runs the signature `serving_default` of a SavedModel.

    Args:
        path: Folder that has a saved_model.pb.
        threads: Threads to compute with; TensorFlow takes the wish before its first operation.
    """

    name = "TensorFlow"

    def __init__(self, path: Path, *, threads: int) -> None:
        stored = path / METADATA_FILE
        super().__init__(Metadata.from_json(stored.read_text("utf-8") if stored.is_file() else None, path))
        self._tensorflow = require_library("tensorflow")
        limit_tensorflow_threads(threads)
        try:
            self._model = self._tensorflow.saved_model.load(str(path))
            self._signature = self._model.signatures[SIGNATURE]
        except Exception as error:  # what TensorFlow raises depends on where in the folder it stumbles
            raise InvalidValueError(
                f"'{path}' is no whole SavedModel; write it again by keras-crossvit export."
            ) from error

    def _run(self, images: list[np.ndarray]) -> np.ndarray:
        tensors = {name: self._tensorflow.constant(image) for name, image in zip(INPUT_NAMES, images, strict=True)}
        return self._signature(**tensors)[OUTPUT_NAME].numpy()
