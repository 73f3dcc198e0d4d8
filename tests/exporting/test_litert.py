"""The dynamic-int8 files of LiteRT: which weights are rounded to what, and how close the logits stay."""

import collections

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import keras_crossvit as kc
from keras_crossvit.exporting.exporter import relative_rms
from keras_crossvit.exporting.litert_writer import quantize_int8
from keras_crossvit.exporting.sample_images import comparison_inputs
from tests.helpers import reference
from tests.helpers.backends import call
from tests.helpers.exports import require_one_partition, small_model, write_export
from tests.helpers.models import DEEPER, images, tiny


def test_published_model_is_a_quarter_of_the_size_and_close_on_photographs(tmp_path):
    model = kc.crossvit_9_dagger(weights=reference.draw_weights("crossvit_9_dagger_240"))
    path = write_export(model, tmp_path / "model.tflite", quantize="dynamic-int8")
    assert path.stat().st_size < 9.7e6  # 8.8 million parameters, scales and the graph
    assert _largest_in_float32(path.read_bytes()) < 197 * 256  # bytes: neither position embedding
    assert _kernels_by_type(path.read_bytes())["FLOAT16"] == 6  # not the heads of so many classes
    inputs, description = comparison_inputs(None, model.config)
    assert description == "crops of two photographs"
    inputs = [each[::7] for each in inputs]  # the whole photographs
    error = relative_rms(kc.load_runtime(path).logits(*inputs), call(model, inputs))
    # Rounding a kernel to 8 bits changes a product by 0.7 %: the largest of 256 random weights, 2.9 standard
    # deviations, is divided into 127 steps. Some twenty products follow each other, and independent errors add up.
    assert 0.005 < error < 0.007 * np.sqrt(20)


@pytest.mark.parametrize(
    ("arguments", "float16", "batch_size"),
    [
        ({}, 8, 1),  # by branch two convolutions, the projection after the last fusion, the head
        ({}, 8, "dynamic"),
        ({"multi_conv": False}, 6, 1),
        ({"multi_conv": False}, 6, "dynamic"),
        (DEEPER, 8, 1),  # of the last fusion only
    ],
)
def test_sensitive_layers_stay_in_float16(arguments, float16, batch_size, tmp_path):
    model = small_model(**arguments)
    path = write_export(model, tmp_path / "model.tflite", batch_size=batch_size, quantize="dynamic-int8")
    assert _kernels_by_type(path.read_bytes())["FLOAT16"] == float16
    require_one_partition(path)
    inputs = images(model, batch=3)
    assert relative_rms(kc.load_runtime(path).logits(*inputs), call(model, inputs)) < 0.02  # see above


def test_file_without_the_expected_operations_is_refused(tmp_path):
    content = write_export(small_model(), tmp_path / "model.tflite").read_bytes()
    with pytest.raises(RuntimeError, match=r"10 operations .*patch_\(fusion\|head\).* expected 18"):
        quantize_int8(content, tiny(**DEEPER).config)


def _largest_in_float32(content):
    """Bytes of the largest float32 constant."""
    file = schema.ModelT.InitFromPackedBuf(content)
    (graph,) = file.subgraphs
    constants = (file.buffers[each.buffer].data for each in graph.tensors if each.type == schema.TensorType.FLOAT32)
    return max(len(each) for each in constants if each is not None)


def _kernels_by_type(content):
    """Number of kernels of convolutions and dense layers by type of their stored weights."""
    file = schema.ModelT.InitFromPackedBuf(content)
    types = {number: name for name, number in vars(schema.TensorType).items() if name.isupper()}
    codes = [each.builtinCode for each in file.operatorCodes]
    (graph,) = file.subgraphs

    def operators(*names):
        wanted = [getattr(schema.BuiltinOperator, name) for name in names]
        return [each for each in graph.operators if codes[each.opcodeIndex] in wanted]

    packed = {each.outputs[0]: each.inputs[0] for each in operators("DEQUANTIZE")}
    kernels = [each.inputs[1] for each in operators("CONV_2D", "FULLY_CONNECTED")]
    return collections.Counter(types[graph.tensors[packed.get(each, each)].type] for each in kernels)
