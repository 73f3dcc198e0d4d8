"""Exports a model to any format: convert, run in a fresh process, compare, and only then keep the result."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_crossvit._internal.checks import resolve_threads
from keras_crossvit._internal.errors import InvalidValueError, OperationError
from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.native_output import suppress_native_output
from keras_crossvit._internal.optional import require_library
from keras_crossvit._internal.user_text import one_line
from keras_crossvit.exporting.fresh_process import call_in_batches, run_file
from keras_crossvit.exporting.options import EXPLAINED_PRECISIONS, ExportOptions, require_place, resolve_options
from keras_crossvit.exporting.sample_images import comparison_inputs
from keras_crossvit.models.config import config_of
from keras_crossvit.models.features import original_of
from keras_crossvit.preprocessing.predictions import require_finite
from keras_crossvit.preprocessing.transforms import IMAGE, NORMALIZED_IMAGE, TENSORS, both_inputs
from keras_crossvit.runtimes import load_runtime
from keras_crossvit.runtimes.formats import FLOAT32
from keras_crossvit.runtimes.metadata import metadata_of
from keras_crossvit.runtimes.runtime import (
    EXPLANATION,
    EXPLANATION_NAMES,
    INPUT_NAMES,
    NAMES_OF_KIND,
    OUTPUT_NAME,
    SIGNATURE,
)
from keras_crossvit.runtimes.signature_names import PROBABILITIES

if TYPE_CHECKING:
    from keras_crossvit.models.crossvit import CrossViT

RESULT_NAME = "export_report.json"
_TIMED_ROUNDS = 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What `export` wrote, how close it is to the Keras model, and how fast. Printed, it is a small table.

    Args:
        path: The exported file, or the folder of a SavedModel's version.
        format: Its format.
        precision: Precision of the weights.
        quantize: Quantization of the weights, or None.
        batch_size: Batch size, or None for any.
        num_bytes: Size of all its files.
        relative_rms: Root mean square error of the logits, relative to the root mean square of the Keras logits.
        tolerance: Largest `relative_rms` that is accepted.
        largest_difference: Largest absolute difference of a logit.
        same_top1: Number of images with the same top-1 class; for one class, with its logit on the same side of 0.
        num_images: Number of compared images.
        images: Description of these images.
        explanation_rms: Relative root mean square error of the explanation's grids, over the images with the same top-1
            class. None if the export has only logits.
        latency_ms: Median time of one batch in the export's runtime.
        keras_latency_ms: The same for the Keras model as a `tf.function` of the same inputs, measured in turns.
        latency_batch_size: Batch size of both times.
        threads: Threads of the runtime, or None for those of this process's TensorFlow.
    """

    path: Path
    format: str
    precision: str
    quantize: str | None
    batch_size: int | None
    num_bytes: int
    relative_rms: float
    tolerance: float
    largest_difference: float
    same_top1: int
    num_images: int
    images: str
    explanation_rms: float | None
    latency_ms: float
    keras_latency_ms: float
    latency_batch_size: int
    threads: int | None

    def to_json(self) -> str:
        """Returns the fields as JSON text, with the name of `path` only."""
        return json.dumps({**dataclasses.asdict(self), "path": self.path.name}, indent=2) + "\n"

    def __str__(self) -> str:
        batch = "any batch size" if self.batch_size is None else f"batch size {self.batch_size}"
        explanation = [] if self.explanation_rms is None else [f"  explanation error    {self.explanation_rms:.2g}"]
        return "\n".join(
            [
                f"{one_line(self.path)}: {self.format}, {self.quantize or self.precision}, {batch}",
                f"  size                 {self.num_bytes / 1e6:.2f} MB",
                f"  relative rms error   {self.relative_rms:.2g} (tolerance {self.tolerance:g})",
                f"  largest difference   {self.largest_difference:.2g}",
                f"  same top-1           {self.same_top1} of {self.num_images} ({one_line(self.images)})",
                *explanation,
                f"  latency              {self.latency_ms:.1f} ms, Keras {self.keras_latency_ms:.1f} ms "
                f"(batch {self.latency_batch_size}, median)",
            ]
        )


@known_keywords_only
def export(
    model: CrossViT,
    path: str | PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    precision: str = FLOAT32,
    quantize: str | None = None,
    batch_size: int | str | None = None,
    version: int | None = None,
    outputs: Sequence[str] = (OUTPUT_NAME,),
    inputs: str = TENSORS,
    images: Any = None,
    threads: int | None = None,
    overwrite: bool = False,
) -> ExportResult:
    """Exports a CrossViT, and keeps the export only if it reproduces the model's outputs.

    The export is run in a fresh process without Keras, on the same images as the model, and the logits are compared;
    of a SavedModel the outputs of every signature. If they differ by more than the format's tolerance, nothing is
    written. The result is also stored beside a file as `<file>.export_report.json`, or in a SavedModel's folder as
    `export_report.json`.

    Args:
        model: The model, on the TensorFlow backend, or a file's model from `single_image`. A model of mixed precision
            is exported in float32. Without a classifier (`num_classes=0`) it can only become a SavedModel.
        path: The file to write; for a SavedModel the folder of all versions, whose name is the model's for TensorFlow
            Serving.
        format: "saved_model", "litert" (`.tflite`), "openvino" (`.xml` and `.bin`) or "onnx" (`.onnx`). Defaults to
            None: by the suffix of `path`.
        precision: Precision of the weights: "float32", for litert and openvino also "float16", for openvino also
            "bfloat16", which computes in bfloat16 where the processor can. Defaults to "float32".
        quantize: Quantization of the weights to 8 bits: "dynamic-int8" for litert, "int8-weights" for openvino.
            Defaults to None: none.
        batch_size: Batch size of the export, or "dynamic" for any. Defaults to None: 1 for litert, any for the others.
        version: Version number of a SavedModel. Defaults to None: one above the highest existing version, or 1.
        outputs: ("logits",), or ("logits", "explanation") for `small_patch_explanation` and `large_patch_explanation`
            too, shapes (batch, rows, columns), float32: for the predicted class, what `explain` computes by ablation.
            They are compared like the logits, and need the precision "float32" or "float16". Defaults to ("logits",).
        inputs: What a file takes: "tensors", both normalized inputs, or for a model from `single_image` only the first
            of them; or "image", for `image`: uint8 from 0 to 255, shape (batch, height, width, channels) at the first
            image size. The file makes both inputs of it, and also has the output `probabilities`. A SavedModel always
            has a signature for each. Defaults to "tensors".
        images: Images to compare on: a folder, of which at most 200 images are used, evenly spaced, or anything that
            `preprocess` takes. Defaults to None: crops of scikit-learn's two photographs if it is installed, or else
            generated images.
        threads: Threads of the runtime while the latency is measured; a SavedModel uses those of this process's
            TensorFlow. Defaults to None: one per processor.
        overwrite: Whether existing files are replaced; versions of a SavedModel never are. Defaults to False.

    Returns:
        The result.

    Raises:
        TypeError: the model is not a CrossViT.
        ValueError: an argument is out of range, Keras has quantized the model, or its outputs are not finite.
        FileExistsError: the file, its `.bin`, or the version already exists.
        ModuleNotFoundError: a library of the format is missing; the message says how to install it.
        RuntimeError: Keras runs on another backend, the outputs differ too much, or another process is exporting to
            the same path.
        OSError: the files cannot be written.
    """
    wrapper, model = model, original_of(model)
    config_of(model)
    path = Path(path)
    options = resolve_options(
        path,
        format=format,
        precision=precision,
        quantize=quantize,
        batch_size=batch_size,
        version=version,
        outputs=outputs,
        inputs=inputs,
    )
    if wrapper is not model:
        if not options.format.suffix:
            raise InvalidValueError(
                f"saved_model does not support models from single_image; export '{model.name}', whose SavedModel has a "
                "signature single_image."
            )
        options = dataclasses.replace(options, inputs=IMAGE if options.inputs == IMAGE else NORMALIZED_IMAGE)
    if EXPLANATION in options.outputs and model.config.num_classes == 0:
        raise InvalidValueError(f"'{model.name}' has num_classes=0, so it has no class to explain; leave outputs out.")
    for library in options.format.libraries:
        require_library(library, options.format.name)
    require_tensorflow_backend()
    from keras_crossvit.exporting.saved_model_writer import staged_saved_model
    from keras_crossvit.exporting.tracing import float32_copy

    threads = resolve_threads(threads)
    is_file = bool(options.format.suffix)
    if is_file:
        require_place(path, options, overwrite=overwrite)
    model = float32_copy(model)
    compared = OUTPUT_NAME if is_file or model.config.num_classes else model.output_names[0]
    given, description = comparison_inputs(images, model.config, options.inputs)
    stage = _staged_file if is_file else staged_saved_model
    with stage(model, path, options, given) as (staged, final, in_keras, computed, expected):
        errors = compare(computed[compared], expected[compared])
        if not errors["relative_rms"] <= options.tolerance:  # NaN fails too
            raise OperationError(
                f"The logits of '{final}' have a relative rms error of {errors['relative_rms']:.2g}, more than "
                f"{options.tolerance:g}, and the same top-1 on {errors['same_top1']} of {errors['num_images']} images; "
                "nothing was written."
            )
        explanation_rms = _explanation_rms(computed, expected) if EXPLANATION in options.outputs else None
        if explanation_rms is not None and not explanation_rms <= EXPLAINED_PRECISIONS[options.precision]:
            raise OperationError(
                f"The explanations of '{final}' have a relative rms error of {explanation_rms:.2g}, more than "
                f"{EXPLAINED_PRECISIONS[options.precision]:g}; nothing was written."
            )
        if options.inputs == IMAGE:
            _require_probabilities(model, computed, options.tolerance, final)
        result = ExportResult(
            path=final,
            format=options.format.name,
            precision=options.precision,
            quantize=options.quantize,
            batch_size=options.batch_size,
            num_bytes=sum(each.stat().st_size for each in (staged.parent if is_file else staged).rglob("*")),
            tolerance=options.tolerance,
            images=description,
            explanation_rms=explanation_rms,
            **errors,
            **_latencies(in_keras, staged, options, given, threads),
        )
        stored = staged.with_name(f"{path.name}.{RESULT_NAME}") if is_file else staged / RESULT_NAME
        stored.write_text(result.to_json(), encoding="utf-8")
    return result


def require_tensorflow_backend() -> None:
    """Raises RuntimeError unless Keras runs on TensorFlow."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise OperationError(
            f"The {keras.backend.backend()} backend cannot export; save the model as .keras and export it with "
            "KERAS_BACKEND=tensorflow."
        )


def convert(model: CrossViT, path: Path, options: ExportOptions) -> Any:
    """Writes a CrossViT as a file of another format, without comparing the two.

    Returns the model's function that has been converted.
    """
    from keras_crossvit.exporting.tracing import exported_function, float32_copy

    function = exported_function(float32_copy(model), options)
    writer = importlib.import_module(f"keras_crossvit.exporting.{options.format.name}_writer")
    with suppress_native_output():
        writer.write(function, path, metadata_of(model, options.outputs, options.inputs), options)
    return function


def relative_rms(values: np.ndarray, expected: np.ndarray) -> float:
    """Returns the root mean square of the difference over that of the expected values."""
    values, expected = (each.astype("float64") for each in (values, expected))
    return float(np.sqrt(np.mean((values - expected) ** 2) / np.mean(expected**2)))


def _require_probabilities(model: CrossViT, outputs: Mapping[str, np.ndarray], tolerance: float, path: Path) -> None:
    """Raises RuntimeError if a file's probabilities are not those of its logits."""
    from keras_crossvit.exporting.tracing import probabilities_function

    expected = np.asarray(probabilities_function(model)(outputs[OUTPUT_NAME]))
    error = relative_rms(outputs[PROBABILITIES], expected)
    if not error <= tolerance:
        raise OperationError(
            f"The probabilities of '{path}' have a relative rms error of {error:.2g}, more than {tolerance:g}; nothing "
            "was written."
        )


def _explanation_rms(outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    """Returns the relative error of the grids where both explain the same class; NaN if they never do."""
    same = outputs[OUTPUT_NAME].argmax(axis=1) == expected[OUTPUT_NAME].argmax(axis=1)
    grids = ([each[name][same].ravel() for name in EXPLANATION_NAMES] for each in (outputs, expected))
    return relative_rms(*map(np.concatenate, grids)) if same.any() else float("nan")


def compare(logits: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """Returns the differences of logits, shape (B, num_classes), by the names of `ExportResult`."""

    def top1(values: np.ndarray) -> np.ndarray:
        return values[:, 0] > 0 if values.shape[1] == 1 else values.argmax(axis=1)

    return {
        "relative_rms": relative_rms(logits, expected),
        "largest_difference": float(np.abs(logits.astype("float64") - expected).max()),
        "same_top1": int(np.sum(top1(logits) == top1(expected))),
        "num_images": len(expected),
    }


@contextlib.contextmanager
def _staged_file(
    model: CrossViT, path: Path, options: ExportOptions, inputs: Sequence[np.ndarray]
) -> Iterator[tuple[Path, Path, Any, dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Does for files what `staged_saved_model` does."""
    from keras_crossvit.exporting.tracing import exported_model, logits_function

    images = dict(zip(NAMES_OF_KIND[options.inputs], inputs, strict=True))
    both = dict(zip(INPUT_NAMES, both_inputs(inputs, model.config), strict=True))
    eagerly = logits_function(exported_model(model, options), None).python_function
    with atomic_write(path, exclusive=True) as staged:
        expected = call_in_batches(eagerly, both)
        require_finite(OUTPUT_NAME, expected[OUTPUT_NAME])
        in_keras = convert(model, staged, options)
        yield staged, path, in_keras, run_file(staged, images), expected


def _latencies(
    in_keras: Any, path: Path, options: ExportOptions, given: Sequence[np.ndarray], threads: int | None
) -> dict[str, Any]:
    """Measures the latencies of an export and of the model's function, by the names of `ExportResult`."""
    import tensorflow as tf

    batch = options.batch_size or 1
    images = [np.resize(each, (batch, *each.shape[1:])) for each in given]
    named = zip(images, in_keras.input_signature, strict=True)
    tensors = {spec.name: tf.cast(image, spec.dtype) for image, spec in named}
    if options.format.suffix:
        runtime = load_runtime(path, threads=threads, quiet=True)
        calls = [lambda: runtime.logits(*images), lambda: in_keras(**tensors)[OUTPUT_NAME].numpy()]
    else:
        threads = None  # TensorFlow has computed something, which fixes its threads
        loaded = tf.saved_model.load(str(path))
        calls = [lambda: loaded.signatures[SIGNATURE](**tensors), lambda: in_keras(**tensors)]
    times: list[list[float]] = [[], []]
    for _ in range(_TIMED_ROUNDS + 1):  # in turns, so that other load on the machine affects both alike
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - start))
    latency, keras_latency = (float(np.median(taken[1:])) for taken in times)  # the first call allocates buffers
    latencies = {"latency_ms": latency, "keras_latency_ms": keras_latency}
    return {**latencies, "latency_batch_size": batch, "threads": threads}
