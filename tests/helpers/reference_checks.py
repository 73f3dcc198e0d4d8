"""Compares a model's outputs with those stored of the reference."""

import keras
import numpy as np

import keras_crossvit as kc
from tests.helpers import reference
from tests.helpers.backends import call

LOGITS = 1e-5  # absolute: float32 sums in another order differ by up to 4e-6
TOKENS = 1e-4  # absolute, over tokens of size 10


def worst_difference(actual, expected):
    return np.abs(actual - expected).max()


def _check_tokens(name, found):
    for key, tokens in found.items():
        _, stage, branch = key.split("_", 2)
        stored = f"{name}/stage_{stage}/branch_{0 if branch == 'small_patch' else 1}"
        assert worst_difference(tokens[:, 0], reference.arrays()[f"{stored}/class_token"]) < TOKENS
        assert worst_difference(tokens[:, 1:].mean(axis=1), reference.arrays()[f"{stored}/patch_mean"]) < TOKENS


def check_model(name, model):
    images = reference.draw_images(name)
    assert model.count_params() == reference.records()[name]["parameters"]
    tokens = kc.feature_extractor(model).output
    logits, tokens = call(keras.Model(model.inputs, [model.output, tokens]), images)
    assert worst_difference(logits, reference.arrays()[f"{name}/logits_two_images"]) < LOGITS
    single = call(kc.single_image(model), images[0][:1])
    assert worst_difference(single, reference.arrays()[f"{name}/logits_one_image"][:1]) < LOGITS
    _check_tokens(name, tokens)
