"""Tiny models for tests, with the weights that the fixtures' rule draws."""

import keras
import numpy as np

from keras_crossvit import build_crossvit
from tests.helpers import reference


def drawn_weights(model_name="tiny_square"):
    return {name: np.asarray(array, "float32") for name, array in reference.draw_weights(model_name).items()}


def fresh_model(model_name="tiny_square", *, classes=None, weights=None, dtype=None, **overrides):
    config = reference.tiny_config(model_name, **overrides)
    return build_crossvit(config, pool=reference.tiny_pool(model_name), classes=classes, weights=weights, dtype=dtype)


def drawn_model(model_name="tiny_square", *, classes=None):
    return fresh_model(model_name, classes=classes, weights=drawn_weights(model_name))


def output(model, images):
    return keras.ops.convert_to_numpy(model(images))
