"""Lists the runners: each one's class, libraries and the workloads that it supports."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.workload import PRECISIONS, Workload
from keras_crossvit._internal.checks import require_known
from keras_crossvit._internal.errors import InvalidValueError, MissingLibraryError


@dataclasses.dataclass(frozen=True)
class Runner:
    """A way to do a workload, in a process of its own.

    Args:
        name: Its name in the command and the tables.
        classes: For each supported mode, the class that does it: "module:Class" of this folder (see `process.py`).
        libraries: Modules that must be installed.
        precisions: Supported precisions. Defaults to float32 only.
        backend: Keras backend. Defaults to None: the user's choice.
        options: Further arguments of the class. Defaults to none.
    """

    name: str
    classes: Mapping[str, str]
    libraries: tuple[str, ...]
    precisions: tuple[str, ...] = ("float32",)
    backend: str | None = None
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def supports(self, workload: Workload) -> bool:
        """Whether the runner can do the workload."""
        return workload.mode in self.classes and workload.precision in self.precisions

    def missing_libraries(self) -> list[str]:
        """Returns the required modules that are not installed."""
        return [library for library in self.libraries if importlib.util.find_spec(library) is None]

    def import_class(self, mode: str) -> Any:
        """Imports the class of a mode, with its libraries."""
        module, _, name = self.classes[mode].partition(":")
        return getattr(importlib.import_module(f"benchmarks.{module}"), name)


_FLOATS = ("float32", "bfloat16")
_KERAS = {"inference": "keras_runners:Inference", "training": "keras_runners:Training"}
_TIMM = {"inference": "timm_runners:Inference", "training": "timm_runners:Training", "files": "timm_runners:Files"}
_KERAS_EXPORT = {"inference": "exported_runners:KerasExport", "files": "exported_runners:KerasExportOnFiles"}
_TIMM_EXPORT = {"inference": "exported_runners:TimmExport"}
_LITERT = ("tensorflow", "ai_edge_litert", "ai_edge_quantizer")
_ONNX = ("tensorflow", "onnx", "onnxruntime", "tf2onnx")
_RUNNERS = (
    Runner("keras-tensorflow", _KERAS, ("tensorflow",), _FLOATS, "tensorflow", {"compiler": "none"}),
    Runner("keras-tensorflow-xla", _KERAS, ("tensorflow",), _FLOATS, "tensorflow", {"compiler": "xla"}),
    Runner("keras-jax", _KERAS, ("jax",), _FLOATS, "jax", {"compiler": "xla"}),
    Runner("keras-torch", _KERAS, ("torch",), _FLOATS, "torch", {"compiler": "none"}),
    Runner("litert", _KERAS_EXPORT, _LITERT, ("float32", "int8"), "tensorflow", {"suffix": ".tflite"}),
    Runner("openvino", _KERAS_EXPORT, ("tensorflow", "openvino", "nncf"), PRECISIONS, "tensorflow", {"suffix": ".xml"}),
    Runner("onnxruntime", _KERAS_EXPORT, _ONNX, ("float32",), "tensorflow", {"suffix": ".onnx"}),
    Runner("timm-eager", _TIMM, ("timm", "torch"), _FLOATS, options={"compiler": "none"}),
    Runner("timm-compiled", _TIMM, ("timm", "torch"), _FLOATS, options={"compiler": "inductor"}),
    Runner("timm-onnxruntime", _TIMM_EXPORT, ("timm", "torch", "onnx", "onnxruntime"), options={"suffix": ".onnx"}),
    Runner("timm-openvino", _TIMM_EXPORT, ("timm", "torch", "openvino"), _FLOATS, options={"suffix": ".xml"}),
    Runner("keras-crossvit-pipeline", {"pipeline": "keras_runners:Pipeline"}, ("tensorflow",), backend="tensorflow"),
    Runner("pillow-timm-loader", {"pipeline": "timm_runners:Loader"}, ("timm", "torch")),
)
RUNNERS = {runner.name: runner for runner in _RUNNERS}
# The rate of a plain matrix product: an upper bound for the models in the same precision.
GEMM_PEAK = Runner("gemm-peak", dict.fromkeys(("inference", "training", "files"), "gemm_peak:GemmPeak"), (), PRECISIONS)


def select(names: Sequence[str] | None, workloads: Sequence[Workload]) -> list[Runner]:
    """Returns the runners of these names, or for None every installed one that supports some of the workloads.

    Raises:
        InvalidValueError: a name is unknown, a named runner supports none of the workloads, or a workload is supported
            by none of the runners.
        MissingLibraryError: a named runner lacks a library.
    """
    for name in names or ():
        require_known("runner", name, RUNNERS)
        if missing := RUNNERS[name].missing_libraries():
            raise MissingLibraryError(
                f"The runner {name} needs {', '.join(missing)}. Install them, or leave {name} out of --runners.",
                name=missing[0],
            )
        if not any(RUNNERS[name].supports(workload) for workload in workloads):
            raise InvalidValueError(f"The runner {name} supports none of the workloads; leave it out of --runners.")
    selected = [RUNNERS[name] for name in dict.fromkeys(RUNNERS if names is None else names)]
    selected = [
        runner
        for runner in selected
        if not runner.missing_libraries() and any(runner.supports(workload) for workload in workloads)
    ]
    for workload in workloads:
        if not any(runner.supports(workload) for runner in selected):
            raise InvalidValueError(
                f"No selected runner supports {workload.mode} in {workload.precision}; see python -m benchmarks --help."
            )
    return selected
