"""Reads .keras and .weights.h5 files into a new model, so that a mismatch does not leave a model half loaded."""

from __future__ import annotations

import dataclasses
import io
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import keras

from keras_crossvit._internal.errors import InvalidValueError, first_line
from keras_crossvit._internal.stored_json import MAX_BYTES, OrNone, parse_json, require_form
from keras_crossvit.checkpoints.archives import require_moderate_size
from keras_crossvit.checkpoints.shapes import require_possible_depth, tensor_shapes
from keras_crossvit.checkpoints.tensors import FLOAT_DTYPES, refuse_other_dtypes
from keras_crossvit.layers._factories import skip_init
from keras_crossvit.models.config import BRANCHES, CrossViTConfig

_CONFIG_MEMBER, _WEIGHTS_MEMBER = "config.json", "model.weights.h5"  # of a .keras file, which is a zip file
_LEAST_BYTES = 0.5  # of a weight that Keras has quantized to int4


def read_keras_model(path: Path) -> Any:
    """Returns the CrossViT in a `.keras` file; no code from the file runs.

    Raises:
        ValueError: the file is broken, or has another model.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            require_moderate_size(archive)
            weights = io.BytesIO(archive.read(_WEIGHTS_MEMBER))  # going back in an archive reads it again
            with h5py.File(weights) as file:
                described = _description(archive)
                if is_crossvit := _describes_crossvit(described):
                    _require_described_weights(described, file)
                    with skip_init():
                        model = keras.models.load_model(path, compile=False, safe_mode=True)
                    others = _other_dtypes(file, model)
    except Exception as error:  # Keras may raise anything, depending on where the file is broken
        raise InvalidValueError(f"'{path}' cannot be read as a .keras file: {first_line(error)}") from error
    if not is_crossvit:
        raise InvalidValueError(
            f"'{path}' has a {described['class_name']}, not a CrossViT; save the CrossViT itself, or use "
            "keras.models.load_model()."
        )
    refuse_other_dtypes(f"'{path}'", others)
    return model


def read_keras_weights(path: Path, model: Any) -> Any:
    """Returns a CrossViT with the weights of a `.weights.h5` file.

    Args:
        path: Path of the file.
        model: A `CrossViT` of the saved architecture. Its classes, image sizes and channels may differ, because the
            shapes in the file tell them.

    Returns:
        A new model, whose images have the file's number of patches, all in one row.

    Raises:
        ValueError: the file is broken, or does not fit this architecture.
    """
    try:
        with h5py.File(path) as file:
            config = dataclasses.replace(model.config, **_fields_from_shapes(file, model))
            _require_weights(config, _sizes(file))
            with skip_init():
                source = type(model)(config, pool=model.pool)
        source.load_weights(path)
        with h5py.File(path) as file:
            others = _other_dtypes(file, source)
    except Exception as error:  # Keras and h5py may raise anything, depending on where the file is broken
        raise InvalidValueError(
            f"'{path}' does not fit the model, and no weight was changed: {first_line(error)} "
            "Use a .weights.h5 file of the same architecture."
        ) from error
    refuse_other_dtypes(f"'{path}'", others)
    return source


def _description(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Returns the content of `config.json` in a `.keras` file."""
    form = {"class_name": str, "registered_name": OrNone(str), "config": {str: Any}}
    with archive.open(_CONFIG_MEMBER) as member:
        return parse_json(member.read(MAX_BYTES + 1), form, max_bytes=MAX_BYTES)


def _describes_crossvit(described: dict[str, Any]) -> bool:
    """Returns whether Keras would build a CrossViT, or a registered subclass of it."""
    from keras_crossvit.models.crossvit import CrossViT  # imported here, since models import checkpoints

    kind = keras.saving.get_registered_object(described["registered_name"])  # which Keras looks up first, too
    return isinstance(kind, type) and issubclass(kind, CrossViT) and kind.__name__ == described["class_name"]


def _require_described_weights(described: dict[str, Any], file: h5py.File) -> None:
    """Raises `InvalidValueError` if a description of a CrossViT has more weights than the file."""
    require_form(described, {"config": {"config": {str: Any}}})
    fields, sizes = described["config"]["config"], _sizes(file)
    require_possible_depth(fields.get("depth"), len(sizes))
    _require_weights(CrossViTConfig(**fields), sizes)


def _sizes(file: h5py.File) -> list[int]:
    """Returns how many bytes a file has of each of its arrays: 0 if a shape is declared without data."""
    sizes: list[int] = []

    def visit(_: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            sizes.append(entry.id.get_storage_size())

    file.visititems(visit)
    return sizes


def _require_weights(config: CrossViTConfig, sizes: Sequence[int]) -> None:
    """Raises `InvalidValueError` if a model has more weights than a file with arrays of these sizes."""
    parameters = sum(map(math.prod, tensor_shapes(config).values()))
    if parameters * _LEAST_BYTES > sum(sizes):
        raise InvalidValueError(f"it describes {parameters} weights, but has only {sum(sizes)} bytes of them")


def _other_dtypes(file: h5py.File, model: Any) -> list[str]:
    """Returns the weights, with their dtypes, that are neither floats nor of a dtype that the model has."""
    known = {*FLOAT_DTYPES, *(weight.dtype for weight in model.weights)}
    others = []

    def visit(name: str, entry: Any) -> None:
        if name.startswith("layers/") and isinstance(entry, h5py.Dataset):
            # HDF5 has no bfloat16; Keras stores it as bytes with an attribute.
            dtype = entry.attrs.get("dtype", "bytes") if entry.dtype.kind == "V" else entry.dtype.name
            if dtype not in known:
                others.append(f"{name} is {dtype}")

    file.visititems(visit)
    return others


def _fields_from_shapes(file: h5py.File, model: Any) -> dict[str, Any]:
    # Keras numbers the layers of one class in the order of the model, from the second one on.
    token_layers = [layer.name for layer in model.layers if layer.name.endswith("_tokens")]
    sizes = []
    for branch, side in zip(BRANCHES, model.config.patch_size, strict=True):
        index = token_layers.index(f"{branch}_tokens")
        group = f"layers/token_embedding_{index}" if index else "layers/token_embedding"
        sizes.append((side, (file[f"{group}/vars/1"].shape[1] - 1) * side))
    return {
        "num_classes": file["layers/dense/vars/1"].shape[0] if "dense" in file["layers"] else 0,
        "in_channels": file["layers/patch_embedding/convolutions/conv2d/vars/0"].shape[2],
        "img_size": sizes,
    }
