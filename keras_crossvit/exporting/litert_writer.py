"""Writes LiteRT files (.tflite) for phones, small computers and browsers."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from keras_crossvit._internal.errors import OperationError
from keras_crossvit._internal.optional import require_library
from keras_crossvit.exporting.graph_preprocessing import RESIZE_SCOPE
from keras_crossvit.exporting.litert_metadata import TABLE_KEY, append_labels, metadata_table
from keras_crossvit.exporting.options import ExportOptions
from keras_crossvit.exporting.tracing import saved_model_of
from keras_crossvit.models.config import BRANCHES, CrossViTConfig
from keras_crossvit.preprocessing.transforms import IMAGE
from keras_crossvit.runtimes.file_digest import BLANK_DIGEST, DIGEST_KEY, write_digest
from keras_crossvit.runtimes.metadata import METADATA_KEY, Metadata

_MAX_FLOAT16_HEAD = 256  # classes; heads for 1,000 would add 0.4 MB
_MIN_FLOAT16_BYTES = 1 << 14  # of constants that are added: position embeddings are larger, biases smaller

Operations = list[tuple[str, str]]  # regular expression that matches one operation, and its kind


def write(function: Any, path: Path, metadata: Metadata, options: ExportOptions) -> None:
    """Writes an `exported_function` as a `.tflite` file of built-in operations and the signature `serving_default`.

    The precision "float16" stores weights in half the size and computes in float32; "dynamic-int8" stores weights as
    int8 and quantizes activations while it runs.

    Raises:
        ModuleNotFoundError: ai-edge-quantizer is needed and not installed.
        ConverterError: LiteRT's converter cannot convert the model.
    """
    if options.quantize:
        require_library("ai_edge_quantizer", "litert")  # before the conversion, which takes a while
    # Not from_concrete_functions: for a Keras model it silently writes a small file without weights.
    with saved_model_of(function) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if options.precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        content = converter.convert()
    if options.quantize:
        content = quantize_int8(content, metadata.config)
    file = flatbuffer_utils.read_model_from_bytearray(content)
    for buffer in file.buffers:
        if buffer.data is not None:  # other kinds of arrays would be written byte by byte, 9 MB in seconds
            buffer.data = np.frombuffer(buffer.data, "uint8")
    if options.quantize:
        _compact(file)
    if options.inputs == IMAGE:
        _take_uint8(file)
    names = {each.tensorIndex: each.name.decode() for each in file.signatureDefs[0].outputs}
    output_names = [names[index] for index in file.subgraphs[0].outputs]
    _add_metadata(file, METADATA_KEY, metadata.to_json().encode())
    _add_metadata(file, TABLE_KEY, metadata_table(metadata, output_names))
    _add_metadata(file, DIGEST_KEY, BLANK_DIGEST.encode())
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(file))
    append_labels(path, metadata)
    write_digest(path)


def _add_metadata(file: Any, name: str, content: bytes) -> None:
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = name, len(file.buffers)
    buffer.data = np.frombuffer(content, "uint8")
    file.buffers.append(buffer)
    file.metadata = [*(file.metadata or []), entry]


def _take_uint8(file: Any) -> None:
    """Replaces the float32 input by a uint8 one of the same values: quantized, with the scale 1."""
    (graph,), (signature,) = file.subgraphs, file.signatureDefs
    (old,), new = graph.inputs, len(graph.tensors)
    tensor, operator, code = copy.copy(graph.tensors[old]), schema.OperatorT(), schema.OperatorCodeT()
    tensor.type, tensor.quantization = schema.TensorType.UINT8, schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [1.0], [0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 2  # reads uint8
    operator.opcodeIndex, operator.inputs, operator.outputs = len(file.operatorCodes), [new], [old]
    graph.tensors[old].name = b"values"
    graph.tensors.append(tensor)
    graph.operators.insert(0, operator)
    graph.inputs = [new]
    file.operatorCodes.append(code)
    signature.inputs[0].tensorIndex = new


def quantize_int8(content: bytes, config: CrossViTConfig) -> bytearray:
    """Rounds the weights of a float32 LiteRT file to int8; activations are quantized row by row while it runs.

    Raises:
        RuntimeError: the file's operations are not those that the architecture should have.
    """
    library = require_library("ai_edge_quantizer.quantizer", "litert")
    types = require_library("ai_edge_quantizer.qtyping", "litert")
    kinds = types.TFLOperationName
    quantizer = library.Quantizer(bytearray(content))
    for kind in (kinds.FULLY_CONNECTED, kinds.CONV_2D, kinds.BATCH_MATMUL):
        quantizer.add_dynamic_config(regex=".*", operation_name=kind, num_bits=8)
    weights_only, in_float16 = _exceptions(content, config)
    for name, kind in weights_only:
        quantizer.add_weight_only_config(regex=name, operation_name=kinds[kind], num_bits=8)
    # Weights of 16 bits, which are converted to float32 when the file is loaded.
    float16 = types.OpQuantizationConfig(
        weight_tensor_config=types.TensorQuantizationConfig(num_bits=16, dtype=types.TensorDataType.FLOAT),
        compute_precision=types.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    for name, kind in in_float16:
        quantizer.update_quantization_recipe(
            regex=name,
            operation_name=kinds[kind],
            op_config=float16,
            algorithm_key=library.AlgorithmName.FLOAT_CASTING,
        )
    for name, kind in _image_operations(content):
        quantizer.update_quantization_recipe(
            regex=name, operation_name=kinds[kind], algorithm_key=library.AlgorithmName.NO_QUANTIZE
        )
    return quantizer.quantize().quantized_model


def _exceptions(content: bytes, config: CrossViTConfig) -> tuple[Operations, Operations]:
    """Returns the operations with float activations, and those that also have float16 weights."""
    file = schema.ModelT.InitFromPackedBuf(content)
    (graph,) = file.subgraphs

    def find(kind: str, pattern: str, count: int) -> Operations:
        code = getattr(schema.BuiltinOperator, kind)
        found = []
        for each in graph.operators:
            if file.operatorCodes[each.opcodeIndex].builtinCode == code:
                # An operation is named by its output, which may be that of a reshape that was fused into it; its kernel
                # always has the name of the layer.
                output, kernel = (graph.tensors[i].name.decode() for i in (each.outputs[0], each.inputs[1]))
                if re.search(pattern, f"{output};{kernel}"):
                    found.append((f"^{re.escape(output)};$", kind))
        if len(found) != count:
            raise OperationError(
                f"{len(found)} operations of the converted file match '{pattern}', expected {count}; this version of "
                "TensorFlow names them differently. Export without quantize."
            )
        return found

    branches = len(BRANCHES)
    # Fusions and heads only see class tokens, so little that float activations cost no time. A fusion has projections
    # to and from the partner's width, and a query and a projection per round.
    fusions = sum(2 + 2 * max(1, rounds) for *_, rounds in config.depth)
    weights_only = find("FULLY_CONNECTED", "patch_(fusion|head)", branches * (fusions + 1))
    # The first convolutions use one scale for all pixels: in int8 they cost more accuracy than all dense layers of a
    # model trained on small images. In float16 they add 104 kB to crossvit_9_dagger.
    in_float16 = find("CONV_2D", "patch_embedding.*/convolution_[01]", branches * (2 if config.multi_conv else 1))
    # The heads see the full rounding error of the projections that return the class tokens from the last fusions.
    last = len(config.depth) - 1
    in_float16 += find("FULLY_CONNECTED", f"stage_{last}_.*patch_fusion.*/to_own", branches)
    if config.num_classes <= _MAX_FLOAT16_HEAD:  # the logits have the full rounding error of the heads
        in_float16 += find("FULLY_CONNECTED", "patch_head", branches)
    return weights_only, in_float16


def _image_operations(content: bytes) -> Operations:
    """Returns the products that resize the image in a file that makes the second input, which stay in float."""
    file = schema.ModelT.InitFromPackedBuf(content)
    (graph,) = file.subgraphs
    kinds = {getattr(schema.BuiltinOperator, kind): kind for kind in ("BATCH_MATMUL", "FULLY_CONNECTED")}
    products = []
    for each in graph.operators:
        output, kind = graph.tensors[each.outputs[0]].name.decode(), file.operatorCodes[each.opcodeIndex].builtinCode
        if kind in kinds and output.startswith(RESIZE_SCOPE):
            products.append((f"^{re.escape(output)};$", kinds[kind]))
    return products


def _compact(file: Any) -> None:
    """Stores large float32 constants that are added, such as position embeddings, as float16.

    Tensors between inputs and outputs lose their names, a hundredth of the file.
    """
    (graph,) = file.subgraphs
    codes = [code.builtinCode for code in file.operatorCodes]
    dequantize = codes.index(schema.BuiltinOperator.DEQUANTIZE)  # which the float16 convolutions have brought
    add = codes.index(schema.BuiltinOperator.ADD)
    replaced = set()
    for index in sorted({int(i) for each in graph.operators if each.opcodeIndex == add for i in each.inputs}):
        tensor = graph.tensors[index]
        data = file.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.FLOAT32 or data is None or len(data) < _MIN_FLOAT16_BYTES:
            continue
        half, buffer, operator = copy.copy(tensor), schema.BufferT(), schema.OperatorT()
        half.type, half.buffer = schema.TensorType.FLOAT16, len(file.buffers)
        buffer.data = np.frombuffer(bytes(data), "<f4").astype("<f2").view("uint8")
        operator.opcodeIndex, operator.inputs, operator.outputs = dequantize, [len(graph.tensors)], [index]
        replaced.add(tensor.buffer)
        tensor.buffer = 0  # the empty buffer, since the values are now computed
        file.buffers.append(buffer)
        graph.tensors.append(half)
        graph.operators.insert(0, operator)
    for number in replaced - {tensor.buffer for tensor in graph.tensors}:  # equal constants share a buffer
        file.buffers[number].data = None
    for index in set(range(len(graph.tensors))) - {*graph.inputs, *graph.outputs}:
        graph.tensors[index].name = b""
