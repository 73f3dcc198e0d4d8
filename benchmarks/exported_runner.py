"""This package's model after export, in its own runtime.

The worker lets `convert` run in a process of its own; the process that is measured holds the runtime and neither Keras
nor TensorFlow.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

_QUANTIZE = {"litert": "dynamic-int8", "openvino": "int8-weights"}


def prepare(task: dict[str, Any]) -> _Exported:
    """The contender for a task of the worker's."""
    for library in ("keras", "tensorflow"):
        sys.modules[library] = None  # as on a machine where it is not installed
    from keras_crossvit.runtimes import load_runtime
    from keras_crossvit.runtimes.runtime import INPUT_NAMES

    data = np.load(Path(task["folder"], "data.npz"))
    return _Exported(load_runtime(_path(task), threads=task["work"]["threads"]), [data[name] for name in INPUT_NAMES])


class _Exported:
    """One batch through the artefact."""

    def __init__(self, runtime: Any, images: list[np.ndarray]) -> None:
        self._runtime, self._images = runtime, images

    def step(self) -> np.ndarray:
        return self._runtime.logits(*self._images)


def _path(task: dict[str, Any]) -> Path:
    return Path(task["folder"], f"{task['name']}{task['options']['suffix']}")


def convert(task: dict[str, Any]) -> None:
    """Writes the artefact of a task."""
    from benchmarks.workload import Workload
    from keras_crossvit.exporting import export
    from keras_crossvit.models.builders import create_model

    work = Workload(**task["work"])
    weights = str(Path(task["folder"], "weights.safetensors"))
    model = create_model(work.model, img_size=work.config.img_size, weights=weights)
    weights = {"precision": work.precision}
    if work.precision == "int8":
        weights = {"quantize": _QUANTIZE[task["options"]["format"]]}
    export(model, _path(task), **weights, batch_size=work.batch_size, threads=work.threads)
