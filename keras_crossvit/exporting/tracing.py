"""A CrossViT's logits as a function of TensorFlow, from which every format is converted."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keras_compat import quantized_layers
from keras_crossvit.exporting.fresh_process import write_archive
from keras_crossvit.runtimes.keras_model import logits_model
from keras_crossvit.runtimes.runtime import INPUT_NAMES, OUTPUT_NAME, SIGNATURE


def float32_copy(model: Any) -> Any:
    """A CrossViT that computes in float32: the model itself where it does, and else one of the same weights.

    Raises:
        ValueError: Keras has quantized its weights.
    """
    if quantized_layers(model):
        raise InvalidValueError(
            f"'{model.name}' has been quantized by Keras; export the model from before, and choose its precision by "
            "quantize (--quantize on the command line)."
        )
    if all(layer.compute_dtype == "float32" for layer in model._flatten_layers()):
        return model
    twin = type(model).from_config({**model.get_config(), "dtype": "float32"})
    twin.set_weights(model.get_weights())
    return twin


def in_float32(model: Any) -> Any:
    """The logits of a CrossViT as a float32 model of its own, whatever precision the CrossViT computes in.

    Raises:
        ValueError: it has no classes, or Keras has quantized its weights.
    """
    return logits_model(float32_copy(model))


def input_signature(model: Any, batch_size: int | None) -> list[Any]:
    """Shapes of the two inputs; `batch_size` None leaves the number of pictures open."""
    import tensorflow as tf

    shapes = [(batch_size, *each.shape[1:]) for each in model.inputs]
    return [tf.TensorSpec(shape, "float32", name=name) for shape, name in zip(shapes, INPUT_NAMES, strict=True)]


def logits_function(model: Any, batch_size: int | None) -> Any:
    """A `tf.function` from the two named images to a dictionary of the logits."""
    import tensorflow as tf

    def logits(small_patch_image: Any, large_patch_image: Any) -> dict[str, Any]:
        return {OUTPUT_NAME: model([small_patch_image, large_patch_image], training=False)}

    return tf.function(logits, input_signature=input_signature(model, batch_size))


@contextlib.contextmanager
def plain_saved_model(model: Any, batch_size: int | None) -> Iterator[Path]:
    """Lends a SavedModel of the logits alone, for converters that take nothing else well."""
    with tempfile.TemporaryDirectory() as folder:
        # The archive finds the variables in the function. After track(model) it stores every one of them twice.
        archive = keras.export.ExportArchive()
        archive.add_endpoint(SIGNATURE, logits_function(model, batch_size))
        write_archive(archive, Path(folder))
        yield Path(folder)
