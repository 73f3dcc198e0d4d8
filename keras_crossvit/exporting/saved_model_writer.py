"""Writes SavedModels for TensorFlow Serving, and compares every signature with the model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_crossvit._internal.errors import ExistingFileError, OperationError
from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.log import logger
from keras_crossvit.exporting.fresh_process import Outputs, Requests, call_in_batches, run_saved_model
from keras_crossvit.exporting.options import ExportOptions
from keras_crossvit.exporting.serving_requests import example_requests, write_warm_up
from keras_crossvit.exporting.signatures import serve_endpoint, signatures
from keras_crossvit.exporting.tracing import write_saved_model
from keras_crossvit.preprocessing.predictions import require_finite
from keras_crossvit.runtimes.formats import FLOAT32, FORMATS
from keras_crossvit.runtimes.loading import numbered_versions
from keras_crossvit.runtimes.metadata import metadata_of
from keras_crossvit.runtimes.runtime import EXPLANATION, SIGNATURE
from keras_crossvit.runtimes.saved_model import METADATA_FILE

if TYPE_CHECKING:
    from keras_crossvit.models.crossvit import CrossViT

# Of the largest output of a signature: float32 rounding in a graph that TensorFlow has optimized.
_TOLERANCE = FORMATS["saved_model"].precisions[FLOAT32]


@contextlib.contextmanager
def staged_saved_model(
    model: CrossViT, folder: Path, options: ExportOptions, inputs: Sequence[np.ndarray]
) -> Iterator[tuple[Path, Path, Any, dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Writes a version of a float32 model into a temporary folder, and compares every signature in a fresh process.

    Yields the temporary folder, the folder that it becomes on success, the model's function of normalised images, and
    by name the outputs for these of the SavedModel and of the model.
    """
    existing = numbered_versions(folder)
    next_version = int(existing[-1].name) + 1 if existing else 1
    path = folder / str(next_version if options.version is None else options.version)
    if path.exists():
        raise ExistingFileError(f"'{path}' already exists; leave version out to write the next one.")
    requests = example_requests(model, inputs)
    (output,) = model.output_names
    with atomic_write(path, exclusive=True) as staged:
        in_keras = call_in_batches(
            lambda **images: {output: model(list(images.values()), training=False)}, requests[SIGNATURE]
        )
        require_finite(output, in_keras[output])
        functions = signatures(model, explained=EXPLANATION in options.outputs)
        expected = _write(model, staged, requests, functions)
        expected[SIGNATURE] |= in_keras
        metadata_file = staged / METADATA_FILE
        metadata_file.parent.mkdir(exist_ok=True)
        metadata_file.write_text(metadata_of(model, options.outputs).to_json(), encoding="utf-8")
        _warm_up(staged, folder.absolute().name, requests)
        outputs = run_saved_model(staged, requests)
        _require_equal(outputs, expected)
        yield staged, path, functions[SIGNATURE], outputs[SIGNATURE], expected[SIGNATURE]


def _write(model: CrossViT, path: Path, requests: Requests, functions: Mapping[str, Any]) -> Outputs:
    """Writes the folder and returns the outputs of the signatures' functions in this process.

    What preprocesses images runs eagerly, since TensorFlow would optimize the model's graph again with each of them.
    """
    callables = {name: each if name == SIGNATURE else each.python_function for name, each in functions.items()}
    outputs = {name: call_in_batches(each, requests[name]) for name, each in callables.items()}
    write_saved_model(path, functions, serve=serve_endpoint(model, functions[SIGNATURE]))
    return outputs


def _warm_up(path: Path, name: str, requests: Requests) -> None:
    try:
        write_warm_up(path, name, requests)
    except ModuleNotFoundError as error:
        logger.info("Warm-up requests for TensorFlow Serving were not written: %s", error)


def _require_equal(outputs: Outputs, expected: Outputs) -> None:
    """Raises RuntimeError if numbers differ. Class ids and names are not compared: equal probabilities may swap."""
    for signature, tensors in expected.items():
        for name, tensor in tensors.items():
            if tensor.dtype.kind not in "fb":
                continue
            wanted, given = (np.asarray(each, "float64") for each in (tensor, outputs[signature][name]))
            difference, largest = float(np.abs(given - wanted).max()), float(np.abs(wanted).max())
            if not difference <= _TOLERANCE * max(1.0, largest):
                raise OperationError(
                    f"{name} of {signature} in the SavedModel differ by {difference:.2g} from the model's, whose "
                    f"largest is {largest:.2g}; at most {_TOLERANCE:g} of it is accepted, so nothing was written."
                )
