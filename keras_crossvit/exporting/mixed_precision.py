"""LiteRT files whose weights have fewer bits, by ai-edge-quantizer."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.optional import require_library
from keras_crossvit.models.config import CrossViTConfig

# The convolutions that see most of the picture's pixels, which are all rounded by one scale. In 8 bits they cost a
# model trained on small pictures more accuracy than all dense layers; in float16 they add 104 kB to crossvit_9_dagger.
_SEES_THE_IMAGE = r"patch_embedding.*/convolution_[01]"
# What works on class tokens alone is so little that computing it in float takes no longer.
_CLASS_TOKENS_ALONE = r"patch_(fusion|head)"
# The dense layers that bring the class tokens back after the last fusions, of whose rounding the heads see everything.
_LAST_WAY_BACK = r"stage_{last}_.*patch_fusion.*/Reshape_3"
# The heads, whose rounding is in the logits as it stands; for a thousand classes they would add 0.4 MB.
_HEAD, _HEAD_CLASSES = r"patch_head", 256
_ENCODER_BLOCK = r"_block_\d"
_INT4 = "dynamic-int4"
_BLOCK = 32  # weights of 4 bits that share a scale
_LARGE = 1 << 14  # bytes; of what is added, position embeddings are larger, biases and LayerNorm's shifts smaller
PRECISIONS = ("dynamic-int8", _INT4)


def require_blocks(config: CrossViTConfig, precision: str) -> None:
    """Raises ValueError unless whole blocks make up the rows of an architecture's weights."""
    for embed_dim, ratio in zip(config.embed_dim, config.mlp_ratio, strict=False):
        hidden = int(embed_dim * ratio)
        if precision == _INT4 and (embed_dim % _BLOCK or hidden % _BLOCK):
            raise InvalidValueError(
                f"{_INT4} takes channels by {_BLOCK}, of which embed_dim {embed_dim} or its MLP's {hidden} hidden ones "
                "are no multiple; use dynamic-int8."
            )


def quantize_weights(content: bytes, precision: str, config: CrossViTConfig) -> bytes:
    """Rounds the weights of a float32 LiteRT file; activations of the encoder are quantized row by row as they come.

    Position embeddings, which are added rather than multiplied, are rounded to float16. The names of the tensors
    between inputs and outputs are left out: a hundredth of the file.

    Args:
        content: The file.
        precision: "dynamic-int8", or "dynamic-int4" for encoder blocks of 4 bits in blocks of 32 weights.
        config: Its architecture.

    Returns:
        The quantized file.

    Raises:
        ModuleNotFoundError: ai-edge-quantizer is not installed; the message says how to install it.
    """
    library = require_library("ai_edge_quantizer.quantizer", "litert")
    types = require_library("ai_edge_quantizer.qtyping", "litert")
    quantizer = library.Quantizer(bytearray(content))
    operations = types.TFLOperationName
    for operation in (operations.FULLY_CONNECTED, operations.CONV_2D, operations.BATCH_MATMUL):
        quantizer.add_dynamic_config(regex=".*", operation_name=operation, num_bits=8)
    quantizer.add_weight_only_config(regex=_CLASS_TOKENS_ALONE, operation_name=operations.FULLY_CONNECTED, num_bits=8)
    last_way_back = _LAST_WAY_BACK.format(last=len(config.depth) - 1)
    in_float16 = [(_SEES_THE_IMAGE, operations.CONV_2D), (last_way_back, operations.FULLY_CONNECTED)]
    if config.num_classes <= _HEAD_CLASSES:
        in_float16.append((_HEAD, operations.FULLY_CONNECTED))
    for regex, operation in in_float16:
        quantizer.update_quantization_recipe(
            regex=regex,
            operation_name=operation,
            op_config=_float16(types),
            algorithm_key=library.AlgorithmName.FLOAT_CASTING,
        )
    if precision == _INT4:
        quantizer.add_dynamic_config(
            regex=_ENCODER_BLOCK,
            operation_name=operations.FULLY_CONNECTED,
            num_bits=4,
            granularity=types.QuantGranularity.BLOCKWISE_32,
        )
    return _compacted(quantizer.quantize().quantized_model)


def _float16(types: Any) -> Any:
    """Weights of 16 bits that are made float32 when the file is loaded."""
    return types.OpQuantizationConfig(
        weight_tensor_config=types.TensorQuantizationConfig(num_bits=16, dtype=types.TensorDataType.FLOAT),
        compute_precision=types.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )


def _compacted(content: bytes | bytearray) -> bytes:
    """Leaves inner tensors without names, and stores large float32 constants that are added as float16.

    ai-edge-quantizer does the latter for products alone.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    file = flatbuffer_utils.read_model_from_bytearray(content)
    (graph,) = file.subgraphs
    kinds = [code.builtinCode for code in file.operatorCodes]
    dequantize = kinds.index(schema.BuiltinOperator.DEQUANTIZE)  # the convolutions in float16 have brought it
    replaced = set()
    for index in _added(graph, kinds.index(schema.BuiltinOperator.ADD)):
        tensor = graph.tensors[index]
        data = file.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.FLOAT32 or data is None or len(data) < _LARGE:
            continue
        half, buffer, operator = copy.copy(tensor), schema.BufferT(), schema.OperatorT()
        half.type, half.buffer = schema.TensorType.FLOAT16, len(file.buffers)
        buffer.data = np.frombuffer(bytes(data), "<f4").astype("<f2").view("uint8")
        operator.opcodeIndex, operator.inputs, operator.outputs = dequantize, [len(graph.tensors)], [index]
        replaced.add(tensor.buffer)
        tensor.buffer = 0  # which is empty by the format's rule: its values are computed
        file.buffers.append(buffer)
        graph.tensors.append(half)
        graph.operators.insert(0, operator)
    for number in replaced - {tensor.buffer for tensor in graph.tensors}:  # equal constants share one
        file.buffers[number].data = None
    for index in set(range(len(graph.tensors))) - {*graph.inputs, *graph.outputs}:
        graph.tensors[index].name = b""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(file))


def _added(graph: Any, addition: int) -> list[int]:
    """Numbers of the tensors that operators of the kind `addition` take, each once."""
    return sorted({int(i) for each in graph.operators if each.opcodeIndex == addition for i in each.inputs})
