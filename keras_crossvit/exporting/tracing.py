"""Traces a CrossViT as a TensorFlow function, from which every format is converted."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_crossvit._internal.errors import FileError, InvalidValueError, tensorflow_disk_reason
from keras_crossvit._internal.keras_compat import all_layers, quantized_layers
from keras_crossvit.runtimes.runtime import INPUT_NAMES, OUTPUT_NAME, SIGNATURE

if TYPE_CHECKING:
    from keras_crossvit.models.crossvit import CrossViT


def float32_copy(model: CrossViT) -> CrossViT:
    """Returns the model if it computes in float32, or else a float32 model with the same weights.

    Raises:
        ValueError: Keras has quantized the weights.
    """
    if quantized_layers(model):
        raise InvalidValueError(
            f"'{model.name}' has been quantized by Keras; export the original model, and choose its precision with "
            "precision or quantize (--precision, --quantize)."
        )
    if all(layer.compute_dtype == "float32" for layer in all_layers(model)):
        return model
    copy = type(model).from_config({**model.get_config(), "dtype": "float32"})
    copy.set_weights(model.get_weights())
    return copy


def logits_function(model: keras.Model, batch_size: int | None) -> Any:
    """Returns a model of logits as a `tf.function` from the two named images to `{"logits": ...}`."""
    signature = [
        tf.TensorSpec((batch_size, *each.shape[1:]), "float32", name=name)
        for each, name in zip(model.inputs, INPUT_NAMES, strict=True)
    ]

    def logits(small_patch_image: tf.Tensor, large_patch_image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {OUTPUT_NAME: model([small_patch_image, large_patch_image], training=False)}

    return tf.function(logits, input_signature=signature)


@contextlib.contextmanager
def logits_saved_model(model: keras.Model, batch_size: int | None) -> Iterator[Path]:
    """Yields a temporary SavedModel of `logits_function`."""
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.add_endpoint(SIGNATURE, logits_function(model, batch_size))
        write_archive(archive, Path(folder))
        yield Path(folder)


def write_archive(archive: keras.export.ExportArchive, path: Path) -> None:
    """Writes a SavedModel. The endpoints bring their variables along; `track` would store each one twice.

    Raises:
        OSError: TensorFlow cannot write it, usually because the disk is full.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TensorFlow prints the folder, whose name is temporary
            archive.write_out(str(path), verbose=False)
    except tf.errors.OpError as error:
        raise FileError(
            f"TensorFlow cannot write a SavedModel ({tensorflow_disk_reason(error)}); make room on the disk."
        ) from error
