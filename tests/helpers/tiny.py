"""Tiny models for tests, with the weights that the fixtures' rule draws."""

import functools

import keras

from keras_crossvit import build_crossvit
from tests.helpers import reference

_drawn = functools.cache(reference.draw_weights)


def reference_weights(model_name="tiny_square"):
    return {name: array.astype("float32") for name, array in _drawn(model_name).items()}  # copies, which tests change


def fresh_model(model_name="tiny_square", *, class_names=None, weights=None, dtype=None, **overrides):
    config = reference.tiny_config(model_name, **overrides)
    return build_crossvit(
        config, pool=reference.tiny_pool(model_name), class_names=class_names, weights=weights, dtype=dtype
    )


def reference_model(model_name="tiny_square", *, class_names=None):
    return fresh_model(model_name, class_names=class_names, weights=reference_weights(model_name))


def output(model, images):
    return keras.ops.convert_to_numpy(model(images))
