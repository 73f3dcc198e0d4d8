"""Runs exported models of this package and of timm in their runtimes.

`convert` writes the file in a process of its own. The measured process has the runtime, but neither Keras, TensorFlow
nor PyTorch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workload import Workload

_QUANTIZE = {".tflite": "dynamic-int8", ".xml": "int8-weights"}  # for precision int8


class KerasExport:
    """Runs a batch through a file that `kc.export` wrote."""

    def __init__(self, workload: Workload, folder: Path, *, suffix: str) -> None:
        for library in ("keras", "tensorflow"):
            sys.modules[library] = None  # type: ignore[assignment]  # as if it were not installed
        from keras_crossvit.runtimes import load_runtime
        from keras_crossvit.runtimes.runtime import INPUT_NAMES

        data = np.load(folder / "data.npz")
        self._runtime = load_runtime(folder / f"exported{suffix}", threads=workload.threads)
        self._images = [data[name] for name in INPUT_NAMES]

    def step(self) -> np.ndarray:
        """Returns the logits."""
        return self._runtime.logits(*self._images)

    @staticmethod
    def convert(workload: Workload, folder: Path, *, suffix: str) -> None:
        """Writes the file."""
        from keras_crossvit.exporting import export
        from keras_crossvit.models.builders import create_model

        weights, int8 = str(folder / "weights.safetensors"), workload.precision == "int8"
        export(
            create_model(workload.model, img_size=workload.config.img_size, weights=weights),
            folder / f"exported{suffix}",
            precision="float32" if int8 else workload.precision,
            quantize=_QUANTIZE[suffix] if int8 else None,
            batch_size=workload.batch_size,
            threads=workload.threads,
        )


class KerasExportOnFiles(KerasExport):
    """Classifies files as `keras-crossvit predict` does."""

    def __init__(self, workload: Workload, folder: Path, *, suffix: str) -> None:
        super().__init__(workload, folder, suffix=suffix)
        self._paths = [str(path) for path in sorted((folder / "images").rglob("*.jpg"))]
        self._batch_size = workload.batch_size

    def step(self) -> np.ndarray:
        """Returns the logits of all files."""
        from keras_crossvit.preprocessing.files import preprocess_files

        batches = preprocess_files(self._paths, self._runtime, self._batch_size)
        return np.concatenate([self._runtime.logits(*inputs) for _, inputs in batches])


class TimmExport:
    """Runs a batch through timm's model in ONNX Runtime (.onnx) or OpenVINO (.xml)."""

    def __init__(self, workload: Workload, folder: Path, *, suffix: str) -> None:
        images = np.load(folder / "data.npz")["small_patch_image"]
        self._images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        self._run = (_load_onnx if suffix == ".onnx" else _load_openvino)(folder / f"timm{suffix}", workload)

    def step(self) -> np.ndarray:
        """Returns the logits."""
        return np.asarray(self._run(self._images), "float32")

    @staticmethod
    def convert(workload: Workload, folder: Path, *, suffix: str) -> None:
        """Writes the file."""
        import torch

        from benchmarks.timm_runners import channels_first, load_model

        model, path = load_model(workload, folder), folder / f"timm{suffix}"
        images = torch.from_numpy(channels_first(np.load(folder / "data.npz")["small_patch_image"]))
        if suffix == ".onnx":
            torch.onnx.export(model, (images,), path, input_names=["image"], opset_version=18, dynamo=False)
            return
        import openvino

        converted = openvino.convert_model(model, example_input=images, input=list(images.shape))
        openvino.save_model(converted, path, compress_to_fp16=False)


def _load_onnx(path: Path, workload: Workload) -> Callable[[np.ndarray], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = workload.threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"image": images})[0]


def _load_openvino(path: Path, workload: Workload) -> Callable[[np.ndarray], Any]:
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": workload.threads,
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[workload.precision],
    }
    compiled = openvino.compile_model(path, "CPU", options)
    return lambda images: compiled(images)[0]
