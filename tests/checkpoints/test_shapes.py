"""Shapes that are known without a model are those of the reference and of the model."""

import pytest

from keras_crossvit import build_crossvit, state_dict
from keras_crossvit.checkpoints.shapes import tensor_shapes
from keras_crossvit.models.variants import VARIANTS
from tests.helpers import reference, tiny


@pytest.mark.parametrize("timm_name", reference.OUR_NAME)
def test_published_models_have_the_shapes_of_the_reference(timm_name):
    config = VARIANTS[reference.OUR_NAME[timm_name]].config
    stored = reference.records()[timm_name]["shapes"]
    assert tensor_shapes(config) == {name: tuple(shape) for name, shape in stored.items()}


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"num_classes": 0},
        {"qkv_bias": False},
        {"depth": ((2, 1, 2), (1, 2, 1))},
        {"multi_conv": False, "in_channels": 1},
        {"img_size": ((96, 48), (32, 80)), "mlp_ratio": (0.4, 2.5)},
        {"patch_size": (16, 12), "img_size": (32, 48)},
    ],
    ids=str,
)
def test_other_models_have_the_shapes_of_their_weights(overrides):
    config = reference.tiny_config("tiny_square", **overrides)
    assert tensor_shapes(config) == {name: each.shape for name, each in state_dict(build_crossvit(config)).items()}


@pytest.mark.parametrize("model_name", reference.TINY)
def test_tiny_models_have_the_shapes_of_the_reference(model_name):
    shapes = {name: each.shape for name, each in tiny.reference_weights(model_name).items()}
    assert tensor_shapes(reference.tiny_config(model_name)) == shapes
