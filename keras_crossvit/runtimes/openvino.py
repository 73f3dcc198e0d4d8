"""OpenVINO's intermediate representation (.xml with the .bin beside it)."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.optional import require_library
from keras_crossvit.runtimes.metadata import METADATA_KEY, Metadata
from keras_crossvit.runtimes.runtime import INPUT_NAMES, OUTPUT_NAME, Runtime

PRECISION_KEY = f"{METADATA_KEY}_inference_precision"
WEIGHTS_KEY = f"{METADATA_KEY}_weights_sha256"


class OpenVINORuntime(Runtime):
    """Runs a model on the CPU by OpenVINO, in the precision that its file asks for.

    Args:
        path: The `.xml` file.
        threads: Threads to compute with.
    """

    name = "OpenVINO"

    def __init__(self, path: Path, *, threads: int) -> None:
        library = require_library("openvino", "openvino")
        try:
            model = library.Core().read_model(path)
        except RuntimeError as error:
            raise InvalidValueError(
                f"'{path}' and its .bin are no whole OpenVINO model; write them again by keras-crossvit export."
            ) from error
        metadata = Metadata.from_json(
            model.get_rt_info(METADATA_KEY).value if model.has_rt_info(METADATA_KEY) else None, path
        )
        if model.has_rt_info(WEIGHTS_KEY) and model.get_rt_info(WEIGHTS_KEY).value != weights_digest(path):
            raise InvalidValueError(
                f"'{path.with_suffix('.bin')}' is not the .bin that '{path.name}' was written with; copy both, or "
                "write them again by keras-crossvit export."
            )
        batch = model.input(INPUT_NAMES[0]).get_partial_shape()[0]
        super().__init__(metadata, batch_size=None if batch.is_dynamic else batch.get_length())
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # OpenVINO's own choice depends on the processor: float32 would be computed in bfloat16 where it is quicker.
            "INFERENCE_PRECISION_HINT": model.get_rt_info(PRECISION_KEY).value,
        }
        self._compiled = library.compile_model(model, "CPU", options)
        self._one_at_a_time = threading.Lock()  # called as a function, a compiled model has one request

    def _run(self, images: list[np.ndarray]) -> np.ndarray:
        with self._one_at_a_time:
            return self._compiled(dict(zip(INPUT_NAMES, images, strict=True)))[OUTPUT_NAME]


def weights_digest(path: Path) -> str:
    """SHA-256 of the `.bin` beside a `.xml` file, which says in this way which of them is its own."""
    with path.with_suffix(".bin").open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()
