"""Writes the folder of a demo page: HTML, scripts, LiteRT.js and the model."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

from PIL import Image

from keras_crossvit._internal.errors import ExistingFileError, InvalidValueError, MissingFileError
from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.model_paths import CHECKPOINT_SUFFIXES, resolve_model_path, suffix_of
from keras_crossvit._internal.user_text import json_text, one_line
from keras_crossvit.demo.litertjs import read_litertjs, unpack_litertjs
from keras_crossvit.explaining.explanation import AGAINST, FOR, OPAQUE
from keras_crossvit.preprocessing.predictions import TOP, resolve_class_names
from keras_crossvit.preprocessing.transforms import IMAGE, LUMA
from keras_crossvit.runtimes import Runtime, load_runtime
from keras_crossvit.runtimes.runtime import EXPLANATION, EXPLANATION_NAMES, SIGNATURE

DIGITS = tuple("0123456789")  # a model with these class names gets a drawing area
# The digits of quickstart count the dark pixels in 4x4 fields of a 32x32 bitmap, and fill the whole image.
_DRAWING = {"side": 32, "field": 4}


@known_keywords_only
def write_demo(model: str | PathLike, folder: str | PathLike, *, litertjs: str | PathLike | None = None) -> Path:
    """Writes a web page that runs a model in the browser.

    Any static web server can serve the folder. The page loads nothing from other hosts, and images never leave the
    browser. Visitors choose an image or use the camera; for a model of the digits 0 to 9 they draw. If the file was
    exported with explanations, a switch shows what speaks for the first class over both inputs.

    Args:
        model: A `.tflite` file that takes one image (`inputs="image"`) with batch size 1, or a path that `load_model`
            reads, which is exported first.
        folder: The folder to write. It must not exist.
        litertjs: Folder with the npm packages of LiteRT.js, as `npm pack` writes them. Defaults to None: they are
            downloaded once and cached.

    Returns:
        The folder.

    Raises:
        ExistingFileError: The folder exists.
        MissingFileError: The model does not exist.
        MissingLibraryError: A library is not installed; the message says how to install it.
        InvalidValueError: The file is broken, the page cannot run this model, or `litertjs` lacks a package.
        DownloadError: LiteRT.js cannot be downloaded.
        OperationError: The model cannot be exported.
    """
    model, folder = resolve_model_path(model), Path(folder)
    if os.path.lexists(folder):
        raise ExistingFileError(f"'{folder}' already exists; choose another folder, or remove it.")
    if not model.exists():
        raise MissingFileError(f"The model '{model}' does not exist; pass the path of a file.")
    suffix = suffix_of(model, (".tflite", *CHECKPOINT_SUFFIXES))
    archives = read_litertjs(litertjs)
    with tempfile.TemporaryDirectory() as scratch, atomic_write(folder) as unfinished:
        if suffix != ".tflite":
            from keras_crossvit.exporting import export
            from keras_crossvit.models.loading import load_model

            original, model = model, Path(scratch) / "model.tflite"
            export(load_model(original), model, inputs=IMAGE)
        config = _page_config(load_runtime(model, threads=1, quiet=True))
        unfinished.mkdir()
        for file in resources.files("keras_crossvit.demo").joinpath("page").iterdir():
            (unfinished / file.name).write_bytes(file.read_bytes())
        unpack_litertjs(archives, unfinished / "litertjs")
        shutil.copyfile(model, unfinished / "model.tflite")
        (unfinished / "model.json").write_text(json_text(config), encoding="utf-8")
    return folder


def _page_config(runtime: Runtime) -> dict[str, Any]:
    """Returns what the scripts of the page need to know about the model."""
    metadata, config = runtime.metadata, runtime.config
    if runtime.batch_size != 1:
        size = "any batch size" if runtime.batch_size is None else f"batch size {runtime.batch_size}"
        raise InvalidValueError(f"The model was exported with {size}; the page needs batch size 1.")
    if runtime.input_kind != IMAGE:
        raise InvalidValueError(
            f"The model takes {' and '.join(runtime.input_names)}, but the page passes one image; export it with "
            f"inputs='{IMAGE}' (--inputs {IMAGE})."
        )
    if config.in_channels not in (1, 3):
        raise InvalidValueError(f"The model takes images with {config.in_channels} channels; the page supports 1 or 3.")
    _ = metadata.probability_function  # refuses an activation that gives no probabilities
    is_digits = runtime.class_names == DIGITS
    return {
        "name": one_line(metadata.name),
        "classNames": [one_line(name) for name in resolve_class_names(config.num_classes, runtime.class_names)],
        "threshold": metadata.calibration.threshold,
        "signature": SIGNATURE,
        "explanationNames": EXPLANATION_NAMES if EXPLANATION in metadata.outputs else [],
        "patchGrids": config.patch_grids,
        "heatColors": {"for": FOR, "against": AGAINST, "opaque": OPAQUE},
        "imageSizes": config.image_sizes,
        "channels": config.in_channels,
        "cropFraction": 1.0 if is_digits else metadata.preprocessing["crop_fraction"],
        "luma": LUMA,
        "top": TOP,
        "maxPixels": Image.MAX_IMAGE_PIXELS,
        "drawing": _DRAWING if is_digits else None,
    }
