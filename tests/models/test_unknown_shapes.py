"""Batches whose sizes TensorFlow does not know while it traces."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_crossvit as kc
from tests.helpers.models import images, tiny

LABELS = np.arange(4) % 3
UNKNOWN = tf.TensorSpec((None, None, None, 3))


def compiled(model, jit_compile=False, run_eagerly=False):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=jit_compile, run_eagerly=run_eagerly)
    return model


def generated(inputs, spec=UNKNOWN):
    signature = (keras.tree.map_structure(lambda _: spec, inputs), tf.TensorSpec((None,), tf.int64))
    return tf.data.Dataset.from_generator(lambda: iter([(inputs, LABELS)] * 2), output_signature=signature)


def with_unknown_channels(inputs):
    return generated(inputs, tf.TensorSpec((None, None, None, None)))


def from_numpy_function(inputs):
    def load(_):
        *arrays, labels = tf.numpy_function(
            lambda: (*keras.tree.flatten(inputs), LABELS),
            [],
            [tf.float32] * len(keras.tree.flatten(inputs)) + [tf.int64],
        )
        arrays = [tf.ensure_shape(each, UNKNOWN.shape) for each in arrays]
        return keras.tree.pack_sequence_as(inputs, arrays), tf.ensure_shape(labels, (None,))

    return tf.data.Dataset.range(2).map(load)


@pytest.mark.parametrize(
    ("batches", "single", "multi_conv"),
    [(with_unknown_channels, False, True), (from_numpy_function, False, False), (generated, True, False)],
)
def test_batches_of_unknown_size_train_like_others(batches, single, multi_conv):
    histories, outputs = [], []
    for unknown in (False, True):
        keras.utils.set_random_seed(1)
        model = tiny(num_classes=3, multi_conv=multi_conv)
        inputs = tuple(images(model, batch=4))
        if single:
            model, inputs = kc.single_image(model), inputs[0]
        data = batches(inputs) if unknown else tf.data.Dataset.from_tensors((inputs, LABELS)).repeat(2)
        compiled(model, run_eagerly=not unknown)
        histories.append(model.fit(data, verbose=0).history["loss"])
        outputs.append(model.predict(data, verbose=0))
        histories[-1].append(model.evaluate(data, verbose=0))
    np.testing.assert_allclose(*histories, rtol=1e-5)  # sums round differently in a graph
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("jit_compile", "wrong_sides"), [(False, [(60, 32), (48, 48)]), (True, [(36, 32)])])
def test_images_of_another_size_fail_with_both_shapes(jit_compile, wrong_sides):
    model = compiled(tiny(num_classes=3), jit_compile=jit_compile)
    for sides in wrong_sides:
        wrong = tuple(np.zeros((4, side, side, 3), "float32") for side in sides)
        both = rf"0,48,48,3\].*4,{sides[0]},{sides[0]},3|0,32,32,3\].*4,{sides[1]},{sides[1]},3"
        with pytest.raises(tf.errors.InvalidArgumentError, match=both):
            model.fit(generated(wrong), verbose=0)


def test_a_model_accepts_symbolic_inputs_of_unknown_size():
    model = tiny(num_classes=3)
    inputs = [keras.Input((None, None, 3)), keras.Input((None, None, 3))]
    wrapper = keras.Model(inputs, model(inputs))
    assert wrapper.output_shape == (None, 3)
    given = images(model)
    np.testing.assert_allclose(wrapper.predict(given, verbose=0), model.predict(given, verbose=0), rtol=0, atol=1e-5)
