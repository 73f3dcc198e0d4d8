"""This package's model after export, in its own runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit.benchmark.work import Work
from keras_crossvit.export import export
from keras_crossvit.models import create_model
from keras_crossvit.runtimes import load_runtime
from keras_crossvit.runtimes.runtime import INPUT_NAMES

_SUFFIXES = {"litert": ".tflite", "openvino": ".xml", "onnxruntime": ".onnx"}
_QUANTIZE = {
    "litert": {"float32": None, "int8": "dynamic-int8"},
    "openvino": {"float32": None, "bfloat16": "bfloat16", "int8": "int8-weights"},
    "onnxruntime": {"float32": None},
}


def prepare(task: dict[str, Any]) -> _Exported:
    """The contender for a task of the worker's."""
    work, folder = Work(**task["work"]), Path(task["folder"])
    model = create_model(work.model, img_size=work.config.img_size, weights=str(folder / "weights.safetensors"))
    path = folder / f"exported{_SUFFIXES[task['name']]}"
    quantize = _QUANTIZE[task["name"]][work.precision]
    export(model, path, quantize=quantize, batch_size=work.batch_size, threads=work.threads, overwrite=True)
    data = np.load(folder / "data.npz")
    return _Exported(load_runtime(path, threads=work.threads), [data[name] for name in INPUT_NAMES])


class _Exported:
    """One batch through the artefact."""

    def __init__(self, runtime: Any, images: list[np.ndarray]) -> None:
        self._runtime, self._images = runtime, images

    def step(self) -> np.ndarray:
        return self._runtime.logits(*self._images)
