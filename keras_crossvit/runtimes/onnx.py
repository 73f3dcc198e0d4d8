"""Runs ONNX files with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keras_crossvit._internal.optional import require_library
from keras_crossvit.runtimes.file_digest import require_undamaged
from keras_crossvit.runtimes.metadata import METADATA_KEY, Metadata
from keras_crossvit.runtimes.runtime import Runtime, refused_if_damaged

_KIND = "ONNX file"


class ONNXRuntime(Runtime):
    """Runs an `.onnx` file on the CPU."""

    name = "ONNX Runtime"

    def __init__(self, path: Path, *, threads: int) -> None:
        library = require_library("onnxruntime", "onnx")
        options = library.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._path = path
        require_undamaged(path)
        with refused_if_damaged(path, _KIND):
            self._session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
            self._names = [each.name for each in self._session.get_outputs()]
            batch = self._session.get_inputs()[0].shape[0]
        super().__init__(Metadata.from_json(text, path), batch_size=batch if isinstance(batch, int) else None)

    def _run(self, images: list[np.ndarray]) -> dict[str, np.ndarray]:
        with refused_if_damaged(self._path, _KIND):
            outputs = self._session.run(self._names, dict(zip(self.input_names, images, strict=True)))
        return dict(zip(self._names, outputs, strict=True))
