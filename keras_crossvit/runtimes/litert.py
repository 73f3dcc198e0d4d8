"""Runs LiteRT files (.tflite) without TensorFlow."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from keras_crossvit._internal.optional import require_library
from keras_crossvit.runtimes.file_digest import require_undamaged
from keras_crossvit.runtimes.metadata import METADATA_KEY, Metadata
from keras_crossvit.runtimes.runtime import NAMES_OF_KIND, SIGNATURE, Runtime, refused_if_damaged

_KIND = "LiteRT file"


class LiteRTRuntime(Runtime):
    """Runs the signature `serving_default` of a `.tflite` file with XNNPACK. Calls run one at a time."""

    name = "LiteRT"

    def __init__(self, path: Path, *, threads: int) -> None:
        library = require_library("ai_edge_litert.interpreter", "litert")
        self._path = path
        require_undamaged(path)  # LiteRT does not check all that a file says, and can crash
        with refused_if_damaged(path, _KIND):
            self._interpreter = library.Interpreter(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
            metadata = Metadata.from_json(read_metadata(path), path)
            self._runner = self._interpreter.get_signature_runner(SIGNATURE)
            batch_size = int(self._runner.get_input_details()[NAMES_OF_KIND[metadata.inputs][0]]["shape_signature"][0])
        super().__init__(metadata, batch_size=None if batch_size == -1 else batch_size)
        self._lock = threading.Lock()  # the interpreter has one set of tensors

    def _run(self, images: list[np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock, refused_if_damaged(self._path, _KIND):
            return self._runner(**dict(zip(self.input_names, images, strict=True)))


def read_metadata(path: Path) -> bytes | None:
    """Returns the package's JSON text from a LiteRT file's metadata, or None."""
    schema = require_library("ai_edge_litert.schema_py_generated", "litert")
    model = schema.Model.GetRootAs(path.read_bytes())
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name() == METADATA_KEY.encode():
            return model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    return None
