"""Keras' own files, read into a model of their own so that a mismatch leaves no other model half loaded."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras

from keras_crossvit._internal.errors import InvalidValueError, first_line
from keras_crossvit.checkpoints.checkpoint import FLOAT_DTYPES, refuse_other_dtypes
from keras_crossvit.models.config import BRANCHES, CrossViTConfig

_WEIGHTS_MEMBER = "model.weights.h5"  # of a .keras file, which is a zip file


def read_keras_model(path: Path) -> Any:
    """The CrossViT in a `.keras` file; no code from the file runs.

    Raises:
        ValueError: the file is broken, or holds another model.
    """
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        with zipfile.ZipFile(path) as archive, archive.open(_WEIGHTS_MEMBER) as member, h5py.File(member) as file:
            odd = _other_dtypes(file, model)
    except Exception as error:  # what Keras raises depends on where in the file it stumbles
        raise InvalidValueError(f"'{path}' cannot be read as a .keras file: {first_line(error)}") from error
    if not isinstance(getattr(model, "config", None), CrossViTConfig):
        raise InvalidValueError(
            f"'{path}' holds a {type(model).__name__}, no CrossViT; save the CrossViT itself, or load the file by "
            "keras.models.load_model."
        )
    refuse_other_dtypes(f"'{path}'", odd)
    return model


def read_keras_weights(path: Path, model: Any) -> Any:
    """A CrossViT with the weights of a `.weights.h5` file.

    Args:
        path: Path of the file.
        model: A `CrossViT` like the one that was saved, except that its number of classes, its image sizes and
            channels may be others; the shapes in the file tell classes, channels and numbers of patches.

    Returns:
        A model of its own, whose images have as many patches as the file's, all in one row.

    Raises:
        ValueError: the file is broken, or does not fit a model of this architecture.
    """
    try:
        with h5py.File(path) as file:
            fields = _fields_from_shapes(file, model)
        config = dataclasses.replace(model.config, **fields)
        source = type(model)(config, pool=model.pool)
        source.load_weights(path)
        with h5py.File(path) as file:
            odd = _other_dtypes(file, source)
    except Exception as error:  # what Keras and h5py raise depends on where in the file they stumble
        raise InvalidValueError(
            f"'{path}' does not fit the model, and no weight was changed: {first_line(error)} "
            "Use a .weights.h5 file of the same architecture."
        ) from error
    refuse_other_dtypes(f"'{path}'", odd)
    return source


def _other_dtypes(file: h5py.File, model: Any) -> list[str]:
    """The weights in a file that are stored neither as floats nor as the model itself has any, with their dtypes."""
    known = {*FLOAT_DTYPES, *(weight.dtype for weight in model.weights)}
    odd = []

    def look_at(name: str, entry: Any) -> None:
        if name.startswith("layers/") and isinstance(entry, h5py.Dataset):
            # Keras stores bfloat16, which HDF5 has not, as bytes with a note.
            dtype = entry.attrs.get("dtype", "bytes") if entry.dtype.kind == "V" else entry.dtype.name
            if dtype not in known:
                odd.append(f"{name} is {dtype}")

    file.visititems(look_at)
    return odd


def _fields_from_shapes(file: h5py.File, model: Any) -> dict[str, Any]:
    """The fields of the configuration that the shapes in a weights file tell."""
    has_heads = "dense" in file["layers"]
    fields = {
        "num_classes": file["layers/dense/vars/1"].shape[0] if has_heads else 0,
        "in_channels": file["layers/patch_embedding/convolutions/conv2d/vars/0"].shape[2],
        "img_size": [],
    }
    for b, group in enumerate(_token_groups(model)):
        # The number of patches is all that the file tells of its images; in one row any number has its place.
        patches, side = file[f"layers/{group}/vars/1"].shape[1] - 1, model.config.patch_size[b]
        fields["img_size"].append((side, patches * side))
    return fields


def _token_groups(model: Any) -> list[str]:
    """Names under which Keras files the layers with the position embeddings: by class, numbered as in the model."""
    names = [layer.name for layer in model.layers if layer.name.endswith("_tokens")]
    groups = {name: f"token_embedding_{i}" if i else "token_embedding" for i, name in enumerate(names)}
    return [groups[f"{branch}_tokens"] for branch in BRANCHES]
