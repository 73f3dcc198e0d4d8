"""LiteRT files whose weights are rounded: which ones are, how near the answers stay, and who computes them."""

import collections

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import keras_crossvit as kc
from keras_crossvit.exporting import litert_writer
from keras_crossvit.exporting.exporter import relative_rms
from keras_crossvit.exporting.sample_images import comparison_inputs
from keras_crossvit.exporting.tracing import in_float32
from keras_crossvit.runtimes.metadata import metadata_of
from tests.helpers import reference
from tests.helpers.backends import call
from tests.helpers.exports import require_one_partition, small_model
from tests.helpers.models import images


@pytest.fixture(scope="module")
def model():
    weights = reference.draw_weights("crossvit_9_dagger_240")
    return kc.crossvit_9_dagger(weights={name: np.asarray(array, "float32") for name, array in weights.items()})


def test_dynamic_int8_is_a_quarter_of_the_size_and_nearly_the_same_on_photographs(model, tmp_path):
    path = tmp_path / "model.tflite"
    litert_writer.write(in_float32(model), path, metadata_of(model), quantize="dynamic-int8", batch_size=1)
    assert path.stat().st_size < 9.7e6  # 8.8 million parameters, scales and the graph
    assert _largest_in_float32(path.read_bytes()) < 197 * 256  # bytes: neither position embedding
    assert _kernels_by_type(path.read_bytes())["FLOAT16"] == 6  # heads of so many classes not among them
    inputs, described = comparison_inputs(None, model.config)
    assert described == "parts of two photographs"
    inputs = [each[::7] for each in inputs]  # the whole ones
    error = relative_rms(kc.load_runtime(path).logits(*inputs), call(model, inputs))
    # Rounding a kernel to 8 bits moves a product by 0.7 %: the largest of 256 drawn weights, 2.9 deviations, is cut
    # into 127 steps. Some twenty products follow each other, and the errors add up as independent ones do.
    assert 0.005 < error < 0.007 * np.sqrt(20)


@pytest.fixture(scope="module")
def small():
    return small_model(embed_dim=(32, 64), num_heads=(2, 2))  # rows of whole blocks of 32 weights


@pytest.fixture(scope="module")
def rounded(small, tmp_path_factory):
    """Files by precision and batch size."""
    files = {}
    for precision, batch_size in (("dynamic-int8", 1), ("dynamic-int8", None), ("dynamic-int4", 1)):
        path = files[precision, batch_size] = tmp_path_factory.mktemp("rounded") / "model.tflite"
        litert_writer.write(in_float32(small), path, metadata_of(small), quantize=precision, batch_size=batch_size)
    return files


def test_rounded_files_are_one_partition_and_near_the_model(rounded, small):
    inputs = images(small, batch=3)
    # A step of 8 bits is 1/127 of the largest weight, one of 4 bits 1/7; see above for how they add up.
    for (precision, _), path in rounded.items():
        require_one_partition(path)
        error = relative_rms(kc.load_runtime(path).logits(*inputs), call(small, inputs))
        assert error < {"dynamic-int8": 0.02, "dynamic-int4": 0.2}[precision]


def test_first_and_last_layers_stay_in_float16_and_blocks_get_the_bits_asked_for(rounded, small):
    kinds = ("dynamic-int8", "dynamic-int4")
    eight, four = (_kernels_by_type(rounded[precision, 1].read_bytes()) for precision in kinds)
    in_blocks = 4 * sum(small.config.depth[0][:2])
    assert eight["FLOAT16"] == four["FLOAT16"] == 8  # by branch two convolutions, the last fusion's end, the head
    assert (eight["INT4"], four["INT4"]) == (0, in_blocks)
    assert eight["INT8"] == four["INT8"] + in_blocks


def test_channels_that_blocks_do_not_divide_are_refused(tmp_path):
    model = small_model()
    with pytest.raises(ValueError, match=r"takes channels by 32, of which embed_dim 16 .* use dynamic-int8"):
        litert_writer.write(
            in_float32(model), tmp_path / "m.tflite", metadata_of(model), quantize="dynamic-int4", batch_size=1
        )


def _largest_in_float32(content):
    """Bytes of the largest constant that is stored in float32."""
    file = schema.ModelT.InitFromPackedBuf(content)
    (graph,) = file.subgraphs
    constants = (file.buffers[each.buffer].data for each in graph.tensors if each.type == schema.TensorType.FLOAT32)
    return max(len(each) for each in constants if each is not None)


def _kernels_by_type(content):
    """How many kernels of convolutions and dense layers have weights of each type, whichever way they are unpacked."""
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
