"""SavedModels for TensorFlow Serving, checked in a process of their own before they are there."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_crossvit.export.processes import run_script
from keras_crossvit.files import written_whole
from keras_crossvit.metadata import metadata_of
from keras_crossvit.runtimes.saved_model import METADATA_FILE

# Share of the largest output: float32 rounding of a graph that TensorFlow has optimised, some ten operations deep.
TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """Where an artefact lies and how far its outputs are from the Keras model's.

    Args:
        path: The artefact.
        outputs: What the artefact returned in its own process, by name.
        largest_difference: Largest absolute difference of any output.
        largest_output: Largest absolute output of the Keras model, for scale.
    """

    path: Path
    outputs: dict[str, np.ndarray]
    largest_difference: float
    largest_output: float


def export_saved_model(
    model: Any, folder: str | PathLike, *, version: int | None = None, images: list[np.ndarray] | None = None
) -> ExportReport:
    """Writes `<folder>/<version>/` as TensorFlow Serving takes it, whole or not at all.

    The signature `serving_default` takes `small_patch_image` and `large_patch_image`, normalised and of any batch
    size, and returns `logits` and `probabilities` (or the model's single output, where it has no logits). Before the
    folder gets its name, it is loaded in a process that has neither Keras nor this package, and its outputs are
    compared with those of `model`.

    Args:
        model: A `CrossViT`, on the TensorFlow backend.
        folder: Folder of all versions of the model; its name is the model's for TensorFlow Serving.
        version: Number of the version. Defaults to None: one above the highest that is there, or 1.
        images: Both inputs to compare the outputs on. Defaults to None: eight drawn from a normal distribution.

    Returns:
        Where it lies, and the largest difference found.

    Raises:
        FileExistsError: the version is there already.
        RuntimeError: the backend is another, or the outputs differ by more than 1e-5 of the largest; nothing is left.
    """
    require_tensorflow_backend()
    folder = Path(folder)
    path = folder / str(_next_version(folder) if version is None else version)
    if path.exists():
        raise FileExistsError(f"'{path}' is there already; leave `version` out to write the next one.")
    images = _drawn_images(model) if images is None else images
    with written_whole(path) as unfinished:
        _write(model, unfinished)
        _write_metadata(model, unfinished)
        expected = keras.ops.convert_to_numpy(model(images, training=False))
        outputs = run_in_fresh_process(unfinished, images)
        difference = float(np.abs(outputs[model.output_names[0]] - expected).max())
        largest = float(np.abs(expected).max())
        if not difference <= TOLERANCE * max(1.0, largest):
            raise RuntimeError(
                f"The SavedModel's outputs are off by {difference:.2g} where the largest is {largest:.2g}, more than "
                f"{TOLERANCE:g} of it; nothing was written."
            )
    return ExportReport(path, outputs, difference, largest)


def require_tensorflow_backend() -> None:
    """Raises RuntimeError unless Keras runs on TensorFlow, which alone writes exports."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Exports are written by the TensorFlow backend, not by {keras.backend.backend()}; save the model as "
            ".keras and export it with KERAS_BACKEND=tensorflow."
        )


def run_in_fresh_process(saved_model: str | PathLike, images: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a SavedModel's `serving_default`, from a process that has neither Keras nor this package.

    Args:
        saved_model: Folder of the version.
        images: The two inputs.

    Returns:
        The outputs by name.

    Raises:
        RuntimeError: the process failed; the message holds its last line.
    """
    arrays = dict(zip(("small_patch_image", "large_patch_image"), images, strict=True))
    return run_script("run_saved_model.py", saved_model, arrays)


def _next_version(folder: Path) -> int:
    versions = [int(each.name) for each in folder.glob("*") if each.name.isdecimal()] if folder.is_dir() else []
    return max(versions, default=0) + 1


def _drawn_images(model: Any) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=(8, *each.shape[1:])).astype("float32") for each in model.inputs]


def _write(model: Any, path: Path) -> None:
    import tensorflow as tf

    output_name = model.output_names[0]

    def serve(small_patch_image: Any, large_patch_image: Any) -> dict[str, Any]:
        outputs = model([small_patch_image, large_patch_image], training=False)
        if output_name != "logits":
            return {output_name: outputs}
        return {"logits": outputs, "probabilities": keras.ops.softmax(outputs)}

    signature = [tf.TensorSpec(each.shape, "float32", name=each.name) for each in model.inputs]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serve, input_signature=signature)
    with contextlib.redirect_stdout(io.StringIO()):  # TensorFlow names the unfinished folder
        archive.write_out(str(path), verbose=False)


def _write_metadata(model: Any, path: Path) -> None:
    file = path / METADATA_FILE
    file.parent.mkdir(exist_ok=True)
    file.write_text(metadata_of(model).to_json(), encoding="utf-8")
