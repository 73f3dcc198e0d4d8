"""Runs OpenVINO models (.xml with the .bin beside it)."""

from __future__ import annotations

import functools
import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.optional import require_library
from keras_crossvit.runtimes.metadata import METADATA_KEY, Metadata
from keras_crossvit.runtimes.runtime import Runtime, refused_if_damaged

_KIND = "OpenVINO model, of this file and its .bin"
PRECISION_KEY = f"{METADATA_KEY}_inference_precision"
WEIGHTS_KEY = f"{METADATA_KEY}_weights_sha256"


class OpenVINORuntime(Runtime):
    """Runs a model on the CPU with the inference precision that its file asks for. Calls run one at a time."""

    name = "OpenVINO"

    def __init__(self, path: Path, *, threads: int) -> None:
        self._path = path
        with refused_if_damaged(path, _KIND):
            model = _core().read_model(path)
            text = model.get_rt_info(METADATA_KEY).value if model.has_rt_info(METADATA_KEY) else None
        metadata = Metadata.from_json(text, path)
        if model.has_rt_info(WEIGHTS_KEY) and model.get_rt_info(WEIGHTS_KEY).value != weights_digest(path):
            raise InvalidValueError(
                f"'{path.with_suffix('.bin')}' does not belong to '{path.name}': its SHA-256 differs. Copy both files "
                "together, or export the model again."
            )
        with refused_if_damaged(path, _KIND):
            batch = model.inputs[0].get_partial_shape()[0]
            options = {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
                # Left to OpenVINO, it depends on the processor: some would compute float32 models in bfloat16.
                "INFERENCE_PRECISION_HINT": model.get_rt_info(PRECISION_KEY).value,
            }
            self._compiled = _core().compile_model(model, "CPU", options)
        super().__init__(metadata, batch_size=None if batch.is_dynamic else batch.get_length())
        self._lock = threading.Lock()  # a compiled model that is called has one request

    def _run(self, images: list[np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock, refused_if_damaged(self._path, _KIND):
            outputs = self._compiled(dict(zip(self.input_names, images, strict=True)))
            return {port.get_any_name(): output for port, output in outputs.items()}


@functools.cache
def _core() -> Any:
    """Returns OpenVINO's core, which lives as long as the process.

    It gives the thread that loads its CPU plugin a stack for signal handlers. If another thread destroyed the core,
    that stack would be gone, and the next Ctrl-C would end the process by a segmentation fault.
    """
    return require_library("openvino", "openvino").Core()


def weights_digest(path: Path) -> str:
    """Returns the SHA-256 of the `.bin` beside an `.xml` file."""
    with path.with_suffix(".bin").open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()
