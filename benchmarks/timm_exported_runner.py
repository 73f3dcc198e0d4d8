"""The peer's model after conversion, in ONNX Runtime or OpenVINO.

The worker lets `convert` run in a process of its own, as for this package's exports: the process that is measured holds
the runtime, and not PyTorch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".xml"}
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


def prepare(task: dict[str, Any]) -> _Exported:
    """The contender for a task of the worker's."""
    run = {"onnxruntime": _in_onnxruntime, "openvino": _in_openvino}[task["options"]["runtime"]]
    images = np.load(Path(task["folder"], "data.npz"))["small_patch_image"]
    return _Exported(run(_path(task), task["work"]), np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


class _Exported:
    """One batch through the artefact."""

    def __init__(self, run: Any, images: np.ndarray) -> None:
        self._run, self._images = run, images

    def step(self) -> np.ndarray:
        return np.asarray(self._run(self._images), "float32")


def _path(task: dict[str, Any]) -> Path:
    return Path(task["folder"], f"{task['name']}{_SUFFIXES[task['options']['runtime']]}")


def _in_onnxruntime(path: Path, work: dict[str, Any]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = work["threads"]
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"image": images})[0]


def _in_openvino(path: Path, work: dict[str, Any]) -> Any:
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": work["threads"],
        "INFERENCE_PRECISION_HINT": _HINTS[work["precision"]],
    }
    compiled = openvino.compile_model(path, "CPU", options)
    return lambda images: compiled(images)[0]


def convert(task: dict[str, Any]) -> None:
    """Writes the artefact of a task."""
    import torch

    from benchmarks.timm_runner import channels_first, load_model

    model = load_model(task, Path(task["folder"], "weights.safetensors"))
    images = torch.from_numpy(channels_first(np.load(Path(task["folder"], "data.npz"))["small_patch_image"]))
    if task["options"]["runtime"] == "onnxruntime":
        torch.onnx.export(model, images, _path(task), input_names=["image"], opset_version=18, dynamo=False)
        return
    import openvino

    converted = openvino.convert_model(model, example_input=images, input=list(images.shape))
    openvino.save_model(converted, _path(task), compress_to_fp16=False)
