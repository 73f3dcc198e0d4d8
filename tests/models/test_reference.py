"""Logits, tokens and gradients against stored results of the reference."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_crossvit as kc
from tests.helpers import reference
from tests.helpers.backends import call, gradient_function
from tests.helpers.reference_checks import LOGITS, check_model, worst_difference

GRADIENTS = 1e-3  # relative to a tensor's gradient norm
# A key bias adds the same to all scores of a head, so its exact gradient is zero. What both sides compute is rounding,
# far below the norms of all other gradients (0.01 and more).
KEY_BIAS_GRADIENT = 1e-5
LOSSES = 1e-4


def _tiny_model(name, **overrides):
    model = kc.build_crossvit(reference.tiny_config(name, **overrides), pool=reference.tiny_pool(name))
    weights = reference.draw_weights(name)
    kc.load_checkpoint(model, weights if not overrides else {n: w for n, w in weights.items() if "head" not in n})
    return model


@pytest.mark.backends
@pytest.mark.parametrize("name", reference.TINY)
def test_tiny_configurations_equal_the_reference(name):
    check_model(name, _tiny_model(name))


@pytest.mark.parametrize("name", reference.TINY)
def test_tokens_of_models_without_classes_equal_the_reference(name):
    tokens = call(_tiny_model(name, num_classes=0), reference.draw_images(name))
    assert worst_difference(tokens, reference.arrays()[f"{name}/pre_logits_two_images"]) < LOGITS


def test_crossvit_9_dagger_equals_the_reference():
    name = "crossvit_9_dagger_240"  # test_published.py has the others
    check_model(name, kc.create_model(reference.OUR_NAME[name], weights=reference.draw_weights(name)))


def _training_model(name):
    if name in reference.TINY:
        return _tiny_model(name)
    return kc.create_model(reference.OUR_NAME[name], weights=reference.draw_weights(name))


def _cross_entropy(labels):
    return lambda logits: ops.mean(ops.sparse_categorical_crossentropy(np.array(labels), logits, from_logits=True))


@pytest.mark.backends
@pytest.mark.parametrize("name", ["tiny_square", "crossvit_9_dagger_240"])
def test_gradients_and_losses_equal_the_reference(name):
    if name not in reference.TINY and keras.backend.backend() != "tensorflow":
        pytest.skip("the other backends only test the tiny configuration, to save time")
    record = reference.records()[name]["training"]
    model, images = _training_model(name), reference.draw_images(name)
    loss_and_gradients = gradient_function(model, images, _cross_entropy(record["labels"]), training=True)
    losses = []
    for step in range(len(record["losses"])):
        loss, gradients = loss_and_gradients()
        losses.append(loss)
        if step == 0:
            _check_gradients(model, gradients, record["gradient_norm_and_probe"])
        for variable in model.trainable_variables:
            variable.assign(variable - record["sgd_learning_rate"] * gradients[variable.path])
    np.testing.assert_allclose(losses, record["losses"], rtol=0, atol=LOSSES)


def _check_gradients(model, gradients, expected):
    from keras_crossvit.checkpoints.tensors import to_timm_layout

    assert all(gradient is not None for gradient in gradients.values())
    found = {}
    for variable in model.trainable_variables:
        name = kc.checkpoints.timm_name(variable.path, model.config)
        found[name] = to_timm_layout(gradients[variable.path], variable.name)
    assert set(found) == set(expected)
    for name, gradient in found.items():
        norm, probe = expected[name]
        direction = reference.direction(name, gradient.shape)
        if name.endswith("attn.wk.bias"):
            assert np.linalg.norm(gradient) < KEY_BIAS_GRADIENT, name
            assert norm < KEY_BIAS_GRADIENT, name
            continue
        assert abs(np.linalg.norm(gradient) - norm) < GRADIENTS * norm, name
        assert abs(np.sum(gradient * direction) - probe) < GRADIENTS * norm, name
