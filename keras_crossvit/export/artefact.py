"""One call for every format: convert, run in a fresh process, compare, and only then let the artefact be there."""

from __future__ import annotations

import importlib
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit.checks import resolve_threads
from keras_crossvit.config import CrossViTConfig
from keras_crossvit.data.preprocessing import preprocess
from keras_crossvit.export.formats import FORMATS, find_format
from keras_crossvit.export.processes import run_script
from keras_crossvit.export.report import REPORT_NAME, ArtefactReport, compare, interleaved_milliseconds
from keras_crossvit.export.sample_pictures import comparison_pictures
from keras_crossvit.export.saved_model import export_saved_model, require_tensorflow_backend
from keras_crossvit.export.tracing import in_float32, logits_function
from keras_crossvit.files import write_text, written_whole
from keras_crossvit.metadata import metadata_of
from keras_crossvit.runtimes import Runtime, load_runtime
from keras_crossvit.runtimes.keras_model import logits_model
from keras_crossvit.runtimes.runtime import INPUT_NAMES, OUTPUT_NAME
from keras_crossvit.silence import native_notes_silenced

_KERAS_BATCH = 8  # pictures at once through the Keras model, which the memory of any machine holds


def export(
    model: Any,
    path: str | PathLike,
    *,
    format: str | None = None,  # noqa: A002
    quantize: str | None = None,
    batch_size: int | str | None = None,
    pictures: Any = None,
    threads: int | None = None,
    overwrite: bool = False,
) -> ArtefactReport:
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
        pictures: Pictures to compare on, a folder of them or what `preprocess` takes. Defaults to None: parts of
            scikit-learn's photographs where it is installed, and else drawn ones.
        threads: Threads of the artefact's runtime when its latency is measured. Defaults to None: one for each
            processor.
        overwrite: Whether an existing file is replaced. Defaults to False.

    Returns:
        The figures; printed, they are a small table.

    Raises:
        TypeError: the model is no `CrossViT`.
        ValueError: an argument is out of range, or the model has no logits.
        FileExistsError: the file is there already.
        ModuleNotFoundError: a library of the format is missing; the message says how to install it.
        RuntimeError: the backend is another, the model cannot be converted, or the artefact disagrees.
        OSError: the place cannot be written.
    """
    if not isinstance(getattr(model, "config", None), CrossViTConfig):
        raise TypeError(
            f"export takes a CrossViT, not a {type(model).__name__}; give it the model that it was made of."
        )
    chosen = find_format(format, path)
    chosen.require_precision(quantize)
    batch_size = chosen.resolve_batch_size(batch_size)
    chosen.require_libraries()
    require_tensorflow_backend()
    threads = resolve_threads(threads)
    shown, described = comparison_pictures(pictures, model.config.in_channels)
    inputs = preprocess(shown, model)
    if not chosen.suffix:
        return _export_saved_model(model, path, inputs, described, threads)
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"'{path}' is there already; choose another name, or overwrite it (--overwrite).")
    plain = in_float32(model)
    writer = importlib.import_module(f"keras_crossvit.export.{chosen.name}")
    with written_whole(path) as unfinished:
        with native_notes_silenced():
            writer.write(plain, unfinished, metadata_of(model), quantize=quantize, batch_size=batch_size)
        answers = run_script("run_artefact.py", unfinished, dict(zip(INPUT_NAMES, inputs, strict=True)))
        figures = compare(answers[OUTPUT_NAME], _keras_logits(plain, inputs))
        tolerance = chosen.tolerances[quantize]
        _require_agreement(figures, tolerance, unfinished.name)
        size = sum(file.stat().st_size for file in unfinished.parent.iterdir())
        timed = _time(plain, unfinished, batch_size or 1, inputs, threads)
        report = ArtefactReport(
            path=path,
            format=chosen.name,
            quantize=quantize,
            batch_size=batch_size,
            size=size,
            tolerance=tolerance,
            pictures=described,
            **figures,
            **timed,
        )
        unfinished.with_name(f"{path.name}.{REPORT_NAME}").write_text(report.to_json(), encoding="utf-8")
    return report


def _export_saved_model(
    model: Any,
    folder: str | PathLike,
    inputs: list[np.ndarray],
    described: str,
    threads: int,
) -> ArtefactReport:
    """Writes the next version in a folder; `export_saved_model` compares it before it is there."""
    plain = logits_model(model)
    saved_model = FORMATS["saved_model"]
    exported = export_saved_model(model, folder, images=inputs)
    report = ArtefactReport(
        path=exported.path,
        format=saved_model.name,
        quantize=None,
        batch_size=None,
        size=sum(file.stat().st_size for file in exported.path.rglob("*")),
        tolerance=saved_model.tolerances[None],
        pictures=described,
        **compare(exported.outputs[OUTPUT_NAME], _keras_logits(plain, inputs)),
        **_time(in_float32(model), exported.path, 1, inputs, threads),
    )
    write_text(exported.path / REPORT_NAME, report.to_json())
    return report


def _keras_logits(model: Any, inputs: list[np.ndarray]) -> np.ndarray:
    rounds = range(0, len(inputs[0]), _KERAS_BATCH)
    return np.concatenate(
        [model([each[start : start + _KERAS_BATCH] for each in inputs], training=False).numpy() for start in rounds]
    )


def _require_agreement(figures: dict[str, Any], tolerance: float, name: str) -> None:
    if not figures["relative_rms"] <= tolerance:  # so that NaN fails too
        raise RuntimeError(
            f"The logits of '{name}' are off by {figures['relative_rms']:.2g} of the model's (relative rms), more than "
            f"{tolerance:g}, with the same top-1 on {figures['agreeing']} of {figures['compared']} pictures; nothing "
            "was written."
        )


def _time(model: Any, artefact: Path, batch: int, inputs: list[np.ndarray], threads: int) -> dict[str, Any]:
    """Latencies by the names of `ArtefactReport`."""
    import tensorflow as tf

    images = [np.resize(each, (batch, *each.shape[1:])) for each in inputs]
    tensors = [tf.constant(each) for each in images]
    with native_notes_silenced():
        runtime: Runtime = load_runtime(artefact, threads=threads)
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
