"""What holds for every layer: shapes, configuration, saving, gradients, randomness only in training, precision."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_crossvit import layers
from tests.helpers.backends import gradient_function
from tests.layers.cases import CASES

pytestmark = pytest.mark.backends
every_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def test_every_public_layer_has_a_case():
    others = {"Preprocessing"}  # of images to two outputs, with tests of its own
    assert {type(case.make()).__name__ for case in CASES.values()} == set(layers.__all__) - others


@every_layer
def test_output_has_the_computed_shape(case):
    layer = case.make()
    shapes = case.input_shapes if len(case.input_shapes) > 1 else case.input_shapes[0]
    assert tuple(layer.compute_output_shape(shapes)) == case.output_shape
    assert tuple(layer(case.inputs()).shape) == case.output_shape
    symbolic = [keras.Input(shape[1:]) for shape in case.input_shapes]
    assert case.make()(symbolic if len(symbolic) > 1 else symbolic[0]).shape == (None, *case.output_shape[1:])


@every_layer
def test_configuration_rebuilds_the_layer(case):
    layer = case.make()
    config = layer.get_config()
    again = type(layer).from_config(json.loads(json.dumps(config)))
    assert json.loads(json.dumps(again.get_config())) == json.loads(json.dumps(config))
    inputs = case.inputs()
    layer(inputs)
    again(inputs)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(*(ops.convert_to_numpy(each(inputs, training=False)) for each in (layer, again)))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends trace with known shapes")
@every_layer
@pytest.mark.parametrize("training", [False, True])
def test_graphs_of_unknown_sizes_give_the_same_outputs(case, training):
    import tensorflow as tf

    layer, inputs = case.make(), case.inputs()
    expected = ops.convert_to_numpy(layer(inputs))
    signature = [tf.TensorSpec((*[None] * (len(shape) - 1), shape[-1])) for shape in case.input_shapes]
    graph = tf.function(lambda *each: layer(list(each) if len(each) > 1 else each[0], training=training))
    graph = graph.get_concrete_function(*signature)
    outputs = graph(*map(tf.convert_to_tensor, inputs if len(signature) > 1 else [inputs]))
    assert outputs.shape == case.output_shape
    if not (training and case.random):
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5)  # a compiled graph rounds differently


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends trace with known shapes")
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    "name", ["bicubic_resize", "patch_embedding", "patch_embedding_with_stem_of_12", "token_embedding"]
)
def test_graphs_of_unknown_sizes_refuse_another_size(name, jit_compile):
    import tensorflow as tf

    case = CASES[name]
    layer = case.make()
    layer(case.inputs())
    graph = tf.function(
        layer, input_signature=[tf.TensorSpec([None] * len(case.input_shapes[0]))], jit_compile=jit_compile
    )
    graph(case.inputs())
    batch, *sides, channels = case.input_shapes[0]
    wrong = [2 * side for side in sides]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{batch},{wrong[0] + (name == 'token_embedding')}"):
        graph(np.zeros((batch, *wrong, channels), "float32"))


@pytest.mark.parametrize("name", CASES)
def test_symbolic_inputs_of_unknown_size_work_or_are_refused(name):
    case = CASES[name]
    symbolic = [keras.Input((*[None] * (len(shape) - 2), shape[-1])) for shape in case.input_shapes]
    layer = case.make()
    if isinstance(layer, (layers.BicubicResize, layers.PatchEmbedding, layers.TokenEmbedding)):
        with pytest.raises(ValueError, match=r"None.*keras\.Input"):
            layer(symbolic[0])
        return
    model = keras.Model(symbolic, layer(symbolic if len(symbolic) > 1 else symbolic[0]))
    inputs = case.inputs()
    expected = layer(inputs)
    outputs = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(outputs, ops.convert_to_numpy(expected), rtol=0, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's own checkpoints")
@every_layer
def test_tensorflow_checkpoints_have_every_weight(case, tmp_path):
    import tensorflow as tf

    layer, fresh, inputs = case.make(), case.make(), case.inputs()
    layer(inputs)
    fresh(inputs)
    random = np.random.default_rng(3)
    layer.set_weights([random.normal(size=weight.shape) for weight in layer.weights])
    path = tf.train.Checkpoint(layer=layer).save(tmp_path / "layer")
    tf.train.Checkpoint(layer=fresh).restore(path).assert_consumed()
    for restored, saved in zip(fresh.get_weights(), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(restored, saved)


@every_layer
def test_every_weight_gets_a_gradient(case):
    layer, inputs = case.make(), case.inputs()
    weights_of_outputs = np.random.default_rng(1).normal(size=case.output_shape).astype("float32")
    layer(inputs)
    if not layer.trainable_variables:
        assert layer.count_params() == 0
        return
    _, gradients = gradient_function(
        layer, inputs, lambda outputs: ops.sum(ops.multiply(outputs, weights_of_outputs))
    )()
    for path, gradient in gradients.items():
        assert gradient is not None, path
        assert np.isfinite(gradient).all(), path
        if not path.endswith("key/bias"):  # cancels in the softmax: zero up to rounding
            assert np.abs(gradient).max() > 0, path


@every_layer
def test_training_differs_from_inference_only_if_it_is_random(case):
    layer, inputs = case.make(), case.inputs()
    inference, training = (ops.convert_to_numpy(layer(inputs, training=flag)) for flag in (False, True))
    assert np.array_equal(inference, training) != case.random
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(inputs)), inference)


@every_layer
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_computes_in_half_with_float32_weights(case, policy):
    keras.config.set_dtype_policy(policy)
    layer, inputs = case.make(), case.inputs()
    half = layer(inputs)
    assert keras.backend.standardize_dtype(half.dtype) == policy.removeprefix("mixed_")
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in layer.weights} <= {"float32"}
    keras.config.set_dtype_policy("float32")
    full = case.make()
    full(inputs)
    full.set_weights(layer.get_weights())
    expected = ops.convert_to_numpy(full(inputs))
    error = np.abs(ops.convert_to_numpy(ops.cast(half, "float32")) - expected).max()
    assert error < 0.05 * np.abs(expected).max()  # bfloat16 rounds to 1 in 256, several times in a row
