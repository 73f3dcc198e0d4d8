"""One call for every format: convert, run in a fresh process, compare, and only then let the artefact be there."""

from __future__ import annotations

import dataclasses
import importlib
import json
import time
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit._internal.checks import resolve_threads
from keras_crossvit._internal.errors import InvalidTypeError, OperationError
from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.native_output import suppress_native_output
from keras_crossvit.exporting.formats import FORMATS, find_format
from keras_crossvit.exporting.fresh_process import run_script
from keras_crossvit.exporting.run_saved_model import in_batches
from keras_crossvit.exporting.sample_images import comparison_inputs
from keras_crossvit.exporting.saved_model_writer import keras_outputs, require_tensorflow_backend, staged_saved_model
from keras_crossvit.exporting.tracing import float32_copy, logits_function
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.preprocessing.predictions import require_finite
from keras_crossvit.runtimes import load_runtime_silently
from keras_crossvit.runtimes.keras_model import logits_model
from keras_crossvit.runtimes.metadata import metadata_of
from keras_crossvit.runtimes.runtime import INPUT_NAMES, OUTPUT_NAME

REPORT_NAME = "export_report.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What an export wrote and found.

    Args:
        path: The artefact.
        format: Its format.
        quantize: Its precision, or None for float32.
        batch_size: Pictures that it takes at once, or None for any number.
        size: Bytes of all its files.
        relative_rms: Root mean square of the difference of the logits over that of the Keras model's logits.
        tolerance: Largest `relative_rms` that the format allows.
        largest_difference: Largest difference of a logit.
        agreeing: Pictures whose most probable class is the same; of one class, whether it is above 1/2.
        compared: Pictures that were compared.
        images: What they are.
        milliseconds: Median time of a call with `timed_batch` pictures, the artefact in its runtime.
        keras_milliseconds: The same of the Keras model as a tf.function, in turn with the artefact.
        timed_batch: Pictures per timed call.
        threads: Threads of the artefact's runtime, or None for those that this process's TensorFlow has.
    """

    path: Path
    format: str
    quantize: str | None
    batch_size: int | None
    size: int
    relative_rms: float
    tolerance: float
    largest_difference: float
    agreeing: int
    compared: int
    images: str
    milliseconds: float
    keras_milliseconds: float
    timed_batch: int
    threads: int | None

    def to_json(self) -> str:
        """The figures as JSON text; `path` is the artefact's name."""
        return json.dumps({**dataclasses.asdict(self), "path": self.path.name}, indent=2) + "\n"

    def __str__(self) -> str:
        batch = "any batch size" if self.batch_size is None else f"batch size {self.batch_size}"
        timed = f"{self.timed_batch} picture{'s' if self.timed_batch > 1 else ''}, median of runs in turn"
        return "\n".join(
            [
                f"{self.path}: {self.format}, {self.quantize or 'float32'}, {batch}",
                f"  size                 {self.size / 1e6:.2f} MB",
                f"  relative rms         {self.relative_rms:.2g} of the logits (at most {self.tolerance:g})",
                f"  largest difference   {self.largest_difference:.2g}",
                f"  same top-1           {self.agreeing} of {self.compared} ({self.images})",
                f"  latency              {self.milliseconds:.1f} ms, Keras {self.keras_milliseconds:.1f} ms ({timed})",
            ]
        )


def relative_rms(given: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square of the difference over that of what was expected."""
    given, expected = (each.astype("float64") for each in (given, expected))
    return float(np.sqrt(np.mean((given - expected) ** 2) / np.mean(expected**2)))


def compare(logits: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """Differences of an artefact's logits from the model's, by the names of `ExportResult`.

    A value that is not finite makes them so.
    """
    return {
        "relative_rms": relative_rms(logits, expected),
        "largest_difference": float(np.abs(logits.astype("float64") - expected).max()),
        "agreeing": int(np.sum(_top1(logits) == _top1(expected))),
        "compared": len(expected),
    }


def _top1(logits: np.ndarray) -> np.ndarray:
    return logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(axis=1)


def interleaved_milliseconds(calls: list[Callable[[], Any]], *, rounds: int = 9) -> list[float]:
    """Median time of each call, run in turn so that what else the machine does meets all alike."""
    times = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - start))
    return [float(np.median(taken[1:])) for taken in times]  # the first prepares buffers


def export(
    model: Any,
    path: str | PathLike,
    *,
    format: str | None = None,  # noqa: A002
    quantize: str | None = None,
    batch_size: int | str | None = None,
    images: Any = None,
    threads: int | None = None,
    overwrite: bool = False,
) -> ExportResult:
    """Writes a CrossViT for another runtime, once it has given the model's answers there.

    The artefact is loaded by its own runtime in a process without Keras, fed the same pictures as `model`, and
    compared. Where it disagrees beyond the format's tolerance, nothing is left behind. Otherwise a report is written
    beside it (`<file>.export_report.json`) or in its folder (`export_report.json`).

    Args:
        model: A `CrossViT` with classes, on the TensorFlow backend.
        path: The file to write; for a SavedModel the folder of all its versions.
        format: "saved_model", "litert" (`.tflite`), "openvino" (`.xml` and `.bin`) or "onnx" (`.onnx`). Defaults to
            None: by the suffix of `path`.
        quantize: Precision of the weights: for litert "float16", "dynamic-int8" or "dynamic-int4", for openvino
            "float16", "bfloat16" or "int8-weights". Defaults to None: float32.
        batch_size: Pictures that the artefact takes at once, or "dynamic" for any number. Defaults to None: 1 for
            litert, dynamic for the others.
        images: Pictures to compare on: a folder, of which at most 200 are taken, evenly spread, or what `preprocess`
            takes. Defaults to None: parts of scikit-learn's photographs where it is installed, and else drawn ones.
        threads: Threads of the artefact's runtime when its latency is measured; a SavedModel has those of this
            process's TensorFlow. Defaults to None: one for each processor.
        overwrite: Whether existing files are replaced. Defaults to False.

    Returns:
        The figures; printed, they are a small table.

    Raises:
        TypeError: the model is no `CrossViT`.
        ValueError: an argument is out of range, or the model has no logits or such that are not finite.
        FileExistsError: the file, or the `.bin` of OpenVINO beside it, is there already, or is a folder.
        ModuleNotFoundError: a library of the format is missing; the message says how to install it.
        RuntimeError: the backend is another, the model cannot be converted, or the artefact disagrees.
        OSError: the place cannot be written.
    """
    if not isinstance(getattr(model, "config", None), CrossViTConfig):
        raise InvalidTypeError(
            f"export takes a CrossViT, not a {type(model).__name__}; give it the model that it was made of."
        )
    chosen = find_format(format, path)
    chosen.require_precision(quantize)
    batch_size = chosen.resolve_batch_size(batch_size)
    chosen.require_libraries()
    require_tensorflow_backend()
    threads = resolve_threads(threads)
    path = Path(path)
    if chosen.suffix:
        chosen.require_place(path, overwrite=overwrite)
    model = float32_copy(model)
    plain = logits_model(model)
    inputs, described = comparison_inputs(images, model.config)
    if not chosen.suffix:
        return _export_saved_model(model, path, plain, inputs, described)
    by_model = in_batches(keras_outputs(plain), dict(zip(INPUT_NAMES, inputs, strict=True)))
    expected = require_finite(OUTPUT_NAME, by_model[OUTPUT_NAME])
    writer = importlib.import_module(f"keras_crossvit.exporting.{chosen.name}_writer")
    with atomic_write(path) as unfinished:
        with suppress_native_output():
            writer.write(plain, unfinished, metadata_of(model), quantize=quantize, batch_size=batch_size)
        answers = run_script("run_artefact.py", unfinished, dict(zip(INPUT_NAMES, inputs, strict=True)))
        figures = compare(answers[OUTPUT_NAME], expected)
        tolerance = chosen.tolerances[quantize]
        _require_agreement(figures, tolerance, unfinished.name)
        size = sum(file.stat().st_size for file in unfinished.parent.iterdir())
        timed = _time(plain, unfinished, batch_size or 1, inputs, threads)
        report = ExportResult(
            path=path,
            format=chosen.name,
            quantize=quantize,
            batch_size=batch_size,
            size=size,
            tolerance=tolerance,
            images=described,
            **figures,
            **timed,
        )
        unfinished.with_name(f"{path.name}.{REPORT_NAME}").write_text(report.to_json(), encoding="utf-8")
    return report


def _export_saved_model(model: Any, folder: Path, plain: Any, inputs: list[np.ndarray], described: str) -> ExportResult:
    """Writes the next version in a folder; `staged_saved_model` compares every signature, and this the logits."""
    chosen = FORMATS["saved_model"]
    with staged_saved_model(model, folder, images=inputs) as (unfinished, exported):
        figures = compare(exported.outputs[OUTPUT_NAME], exported.expected[OUTPUT_NAME])
        tolerance = chosen.tolerances[None]
        _require_agreement(figures, tolerance, str(exported.path))
        report = ExportResult(
            path=exported.path,
            format=chosen.name,
            quantize=None,
            batch_size=None,
            size=sum(file.stat().st_size for file in unfinished.rglob("*")),
            tolerance=tolerance,
            images=described,
            **figures,
            **_time(plain, unfinished, 1, inputs, None),
        )
        (unfinished / REPORT_NAME).write_text(report.to_json(), encoding="utf-8")
    return report


def _require_agreement(figures: dict[str, Any], tolerance: float, name: str) -> None:
    if not figures["relative_rms"] <= tolerance:  # so that NaN fails too
        raise OperationError(
            f"The logits of '{name}' are off by {figures['relative_rms']:.2g} of the model's (relative rms), more than "
            f"{tolerance:g}, with the same top-1 on {figures['agreeing']} of {figures['compared']} pictures; nothing "
            "was written."
        )


def _time(model: Any, artefact: Path, batch: int, inputs: list[np.ndarray], threads: int | None) -> dict[str, Any]:
    """Latencies by the names of `ExportResult`; `threads` None leaves to TensorFlow, which has begun, what it has."""
    import tensorflow as tf

    images = [np.resize(each, (batch, *each.shape[1:])) for each in inputs]
    tensors = [tf.constant(each) for each in images]
    runtime = load_runtime_silently(artefact, threads=threads)
    keras_function = logits_function(model, batch)
    milliseconds, keras_milliseconds = interleaved_milliseconds(
        [lambda: runtime.logits(*images), lambda: keras_function(*tensors)[OUTPUT_NAME].numpy()]
    )
    return {
        "milliseconds": milliseconds,
        "keras_milliseconds": keras_milliseconds,
        "timed_batch": batch,
        "threads": threads,
    }
