"""Writes LiteRT files (.tflite) for phones, small computers and browsers."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_crossvit._internal.optional import require_library
from keras_crossvit.exporting.mixed_precision import quantize_int8
from keras_crossvit.exporting.options import ExportOptions
from keras_crossvit.exporting.tracing import logits_saved_model
from keras_crossvit.runtimes.metadata import METADATA_KEY, Metadata


def write(model: keras.Model, path: Path, metadata: Metadata, options: ExportOptions) -> None:
    """Writes a float32 model of logits as a `.tflite` file of built-in operations and the signature `serving_default`.

    The precision "float16" stores weights in half the size and computes in float32; "dynamic-int8" stores weights as
    int8 and quantizes activations while it runs.

    Raises:
        ModuleNotFoundError: ai-edge-quantizer is needed and not installed.
        ConverterError: LiteRT's converter cannot convert the model.
    """
    if options.quantize:
        require_library("ai_edge_quantizer", "litert")  # before the conversion, which takes a while
    # Not from_concrete_functions: for a Keras model it silently writes a small file without weights.
    with logits_saved_model(model, options.batch_size) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if options.precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        content = converter.convert()
    if options.quantize:
        content = quantize_int8(content, metadata.config)
    path.write_bytes(_with_metadata(content, metadata))


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
