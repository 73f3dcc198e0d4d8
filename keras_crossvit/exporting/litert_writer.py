"""LiteRT files (.tflite): phones, small computers and browsers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import OperationError
from keras_crossvit._internal.optional import require_library
from keras_crossvit.exporting.mixed_precision import PRECISIONS, quantize_weights, require_blocks
from keras_crossvit.exporting.tracing import plain_saved_model
from keras_crossvit.runtimes.metadata import METADATA_KEY, Metadata


def write(model: Any, path: Path, metadata: Metadata, *, quantize: str | None, batch_size: int | None) -> None:
    """Writes a `.tflite` file of operations that LiteRT has built in, with the signature `serving_default`.

    Args:
        model: What `in_float32` returns.
        path: The file to write.
        metadata: What the file says of its model.
        quantize: None for float32; "float16" for weights of half the size, computed in float32; "dynamic-int8" for
            weights of int8, a quarter of the size, and activations that are quantized as they come; "dynamic-int4" for
            the same with encoder blocks of int4.
        batch_size: Pictures at once, or None for any number.

    Raises:
        ModuleNotFoundError: rounded weights need ai-edge-quantizer, which is not installed.
        ValueError: the model's layers do not divide into the blocks of the precision.
        RuntimeError: the model has an operation that LiteRT has not.
    """
    if quantize in PRECISIONS:  # what is wrong is said before the conversion, which takes a while
        require_library("ai_edge_quantizer", "litert")
        require_blocks(metadata.config, quantize)
    content = _convert(model, batch_size, in_float16=quantize == "float16")
    if quantize in PRECISIONS:
        content = quantize_weights(content, quantize, metadata.config)
    path.write_bytes(_with_metadata(content, metadata))


def _convert(model: Any, batch_size: int | None, *, in_float16: bool) -> bytes:
    import tensorflow as tf

    # Not from_concrete_functions: over a Keras model it writes a small file of no weights without a word.
    with plain_saved_model(model, batch_size) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if in_float16:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            return converter.convert()
        except Exception as error:  # the converter's own class, derived from Exception alone
            raise OperationError(f"LiteRT's converter refuses the model: {error}") from error


def _with_metadata(content: bytes, metadata: Metadata) -> bytes:
    from tensorflow.lite.python.schema_py_generated import BufferT, MetadataT
    from tensorflow.lite.tools import flatbuffer_utils

    file = flatbuffer_utils.read_model_from_bytearray(content)
    entry, buffer = MetadataT(), BufferT()
    entry.name, entry.buffer = METADATA_KEY, len(file.buffers)
    buffer.data = np.frombuffer(metadata.to_json().encode(), "uint8")
    file.buffers.append(buffer)
    file.metadata = [*(file.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(file))
