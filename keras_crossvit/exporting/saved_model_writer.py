"""SavedModels for TensorFlow Serving, checked in a process of their own before they are there."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_crossvit._internal.errors import ExistingFileError, OperationError
from keras_crossvit._internal.files import atomic_write
from keras_crossvit.exporting.formats import FORMATS
from keras_crossvit.exporting.fresh_process import run_script, write_archive
from keras_crossvit.exporting.run_saved_model import in_batches
from keras_crossvit.exporting.serving_requests import example_requests, write_warm_up
from keras_crossvit.exporting.tracing import float32_copy
from keras_crossvit.preprocessing.predictions import require_finite
from keras_crossvit.runtimes.metadata import metadata_of
from keras_crossvit.runtimes.saved_model import METADATA_FILE

# Share of the largest output: float32 rounding of a graph that TensorFlow has optimised, some ten operations deep.
TOLERANCE = FORMATS["saved_model"].tolerances[None]
Requests = Mapping[str, Mapping[str, Any]]  # tensors by signature and name; lists of bytes for strings


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """Where an artefact lies and how far its outputs are from the Keras model's.

    Args:
        path: The artefact.
        outputs: What the artefact's `serving_default` returned in its own process, by name.
        expected: What the Keras model returns for the same, by name.
        largest_difference: Largest absolute difference of any output.
        largest_output: Largest absolute output of the Keras model, for scale.
    """

    path: Path
    outputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    largest_difference: float
    largest_output: float


def export_saved_model(
    model: Any, folder: str | PathLike, *, version: int | None = None, images: list[np.ndarray] | None = None
) -> ExportReport:
    """Writes `<folder>/<version>/` as TensorFlow Serving takes it, whole or not at all.

    The signatures `serving_default`, `single_image`, `single_image_float` and `image_bytes` take the two normalised
    inputs, pictures of any size, or the bytes of JPEG and PNG files, of any batch size; see
    `keras_crossvit.exporting.signatures`. Before the folder gets its name, it is loaded in a process that has neither
    Keras nor this package, and the outputs of every signature are compared with those of `model`; bytes that are no
    picture are among them. A model of mixed precision is written, and compared, in float32.

    Args:
        model: A `CrossViT`, on the TensorFlow backend.
        folder: Folder of all versions of the model; its name is the model's for TensorFlow Serving.
        version: Number of the version. Defaults to None: one above the highest that is there, or 1.
        images: Both inputs to compare the outputs on. Defaults to None: eight drawn from a normal distribution.

    Returns:
        Where it lies, and the largest difference found.

    Raises:
        FileExistsError: the version is there already.
        RuntimeError: the backend is another, or an output differs by more than 1e-5 of its largest value, or of 1 where
            that is less; nothing is left.
        ValueError: Keras has quantized the model's weights, or the model's outputs are not finite.
    """
    with staged_saved_model(model, folder, version=version, images=images) as (_, report):
        return report


@contextlib.contextmanager
def staged_saved_model(
    model: Any, folder: str | PathLike, *, version: int | None = None, images: list[np.ndarray] | None = None
) -> Iterator[tuple[Path, ExportReport]]:
    """Lends the unfinished folder of a version that has been compared; it gets its name when all went well.

    Args and errors are those of `export_saved_model`.

    Yields:
        The unfinished folder, and the report of the version that it is to be.
    """
    require_tensorflow_backend()
    model = float32_copy(model)
    folder = Path(folder)
    path = folder / str(_next_version(folder) if version is None else version)
    if path.exists():
        raise ExistingFileError(f"'{path}' is there already; leave `version` out to write the next one.")
    requests = example_requests(model, images)
    with atomic_write(path) as unfinished:
        by_model = in_batches(keras_outputs(model), requests["serving_default"])
        for name, outputs in by_model.items():
            require_finite(name, outputs)
        expected = _write(model, unfinished, requests)
        _write_metadata(model, unfinished)
        _warm_up(unfinished, folder.absolute().name, requests)
        expected["serving_default"] |= by_model
        outputs = run_in_fresh_process(unfinished, requests)
        difference, largest = _compare(outputs, expected)
        yield (
            unfinished,
            ExportReport(path, outputs["serving_default"], expected["serving_default"], difference, largest),
        )


def require_tensorflow_backend() -> None:
    """Raises RuntimeError unless Keras runs on TensorFlow, which alone writes exports."""
    if keras.backend.backend() != "tensorflow":
        raise OperationError(
            f"Exports are written by the TensorFlow backend, not by {keras.backend.backend()}; save the model as "
            ".keras and export it with KERAS_BACKEND=tensorflow."
        )


def run_in_fresh_process(saved_model: str | PathLike, requests: Requests) -> dict[str, dict[str, np.ndarray]]:
    """Outputs of a SavedModel's signatures, from a process that has neither Keras nor this package.

    Args:
        saved_model: Folder of the version.
        requests: What to ask: by signature, its tensors by name, or lists of bytes.

    Returns:
        The outputs by signature and name; strings as bytes.

    Raises:
        RuntimeError: the process failed; the message holds its last line.
    """
    arrays = {}
    for signature, tensors in requests.items():
        for name, value in tensors.items():
            if isinstance(value, list):
                numbered = {f"{signature}/{name}/{i}": np.frombuffer(each, "uint8") for i, each in enumerate(value)}
                arrays.update(numbered)
            else:
                arrays[f"{signature}/{name}"] = value
    answers: dict[str, dict[str, np.ndarray]] = {}
    for key, array in run_script("run_saved_model.py", saved_model, arrays).items():
        signature, _, name = key.partition("/")
        answers.setdefault(signature, {})[name] = array
    return answers


def _next_version(folder: Path) -> int:
    versions = [int(each.name) for each in folder.glob("*") if each.name.isdecimal()] if folder.is_dir() else []
    return max(versions, default=0) + 1


def _compare(outputs: dict[str, dict], expected: dict[str, dict]) -> tuple[float, float]:
    """Largest difference of `serving_default` and its largest output; raises RuntimeError where numbers disagree.

    The order of classes that are all but equally probable may differ, so ids and names are compared by no rule.
    """
    found = {}
    for signature, tensors in expected.items():
        for name, tensor in tensors.items():
            if tensor.dtype.kind not in "fb":
                continue
            wanted, given = (np.asarray(each, "float64") for each in (tensor, outputs[signature][name]))
            difference, largest = float(np.abs(given - wanted).max()), float(np.abs(wanted).max())
            found[signature, name] = difference, largest
            if not difference <= TOLERANCE * max(1.0, largest):
                raise OperationError(
                    f"The SavedModel's {name} of {signature} are off by {difference:.2g} where the largest is "
                    f"{largest:.2g}, more than {TOLERANCE:g} of it; nothing was written."
                )
    return max(found[key] for key in found if key[0] == "serving_default")


def keras_outputs(model: Any) -> Callable[..., dict[str, Any]]:
    """A model of one output as a function of its images by name, which returns the output by its name."""
    (name,) = model.output_names
    return lambda **images: {name: model(list(images.values()), training=False)}


def _write(model: Any, path: Path, requests: Requests) -> dict[str, dict[str, np.ndarray]]:
    """Writes the folder and returns what its functions answer to the requests in this process."""
    from keras_crossvit.exporting.signatures import signatures

    # The archive finds the variables in the functions. After track(model) it stores every one of them twice.
    archive = keras.export.ExportArchive()
    answers = {}
    for name, signature in signatures(model).items():
        function = archive.add_endpoint(name, signature.function, input_signature=list(signature.inputs))
        answers[name] = in_batches(function, requests[name])
    write_archive(archive, path)
    return answers


def _warm_up(path: Path, name: str, requests: Requests) -> None:
    """Writes warm-up records or says what is missing."""
    try:
        write_warm_up(path, name, requests)
    except ModuleNotFoundError as error:
        print(f"No warm-up records for TensorFlow Serving were written: {error}")


def _write_metadata(model: Any, path: Path) -> None:
    file = path / METADATA_FILE
    file.parent.mkdir(exist_ok=True)
    file.write_text(metadata_of(model).to_json(), encoding="utf-8")
