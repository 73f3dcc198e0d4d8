"""The formats of exported models: their files, libraries and tolerances."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

FLOAT32 = "float32"
_FLOAT32_ONLY = {FLOAT32: 1e-5}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelFormat:
    """A format of exported models.

    Args:
        name: Name of the format, of its module in this package, and of the extra that installs `libraries`.
        runtime: Name of its `Runtime` class.
        suffix: Suffix of its files, or "" for a folder. Defaults to "".
        companions: Suffixes of the files that belong to a file of this format. Defaults to none.
        libraries: Modules that writing and running it need, beyond TensorFlow for writing. Defaults to none.
        default_batch_size: Batch size of an export, or None for any. Defaults to None.
        precisions: For each precision of the weights, the largest relative rms error of an export's logits. Defaults to
            1e-5 for float32 only.
        quantizations: The same for each quantization of the weights. Defaults to none.
    """

    name: str
    runtime: str
    suffix: str = ""
    companions: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    default_batch_size: int | None = None
    precisions: Mapping[str, float] = dataclasses.field(default_factory=lambda: _FLOAT32_ONLY)
    quantizations: Mapping[str, float] = dataclasses.field(default_factory=dict)


# Tolerances: float32 results differ by the order of summation. Half precision rounds every weight, and bfloat16 every
# activation too. Rounding a kernel to int8 changes its product by 0.7 %; random weights accumulate that to 3 % over the
# depth of crossvit_9_dagger, trained ones to 0.7 %.
_FORMATS = (
    ModelFormat(name="saved_model", runtime="SavedModelRuntime"),
    ModelFormat(
        name="litert",
        runtime="LiteRTRuntime",
        suffix=".tflite",
        libraries=("ai_edge_litert",),
        default_batch_size=1,
        precisions={**_FLOAT32_ONLY, "float16": 5e-3},
        quantizations={"dynamic-int8": 0.05},
    ),
    ModelFormat(
        name="openvino",
        runtime="OpenVINORuntime",
        suffix=".xml",
        companions=(".bin",),
        libraries=("openvino",),
        precisions={**_FLOAT32_ONLY, "float16": 5e-3, "bfloat16": 0.05},
        quantizations={"int8-weights": 0.05},
    ),
    ModelFormat(name="onnx", runtime="ONNXRuntime", suffix=".onnx", libraries=("onnx", "onnxruntime", "tf2onnx")),
)
FORMATS = {each.name: each for each in _FORMATS}
FORMAT_OF_SUFFIX = {each.suffix: each for each in _FORMATS if each.suffix}
FILE_FORMATS = tuple(each.name for each in FORMAT_OF_SUFFIX.values())
PRECISIONS = tuple(dict.fromkeys(name for each in _FORMATS for name in each.precisions))
QUANTIZATIONS = tuple(name for each in _FORMATS for name in each.quantizations)


def model_files(path: Path) -> list[Path]:
    """Returns the files of a model: all in a folder, or the file and those that belong to it."""
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if each.is_file())
    companions = FORMAT_OF_SUFFIX[path.suffix].companions if path.suffix in FORMAT_OF_SUFFIX else ()
    return [path, *filter(Path.is_file, map(path.with_suffix, companions))]


def model_digest(path: Path) -> str:
    """Returns the SHA-256 digest of a model's files."""
    digest = hashlib.sha256()
    for file in model_files(path):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
