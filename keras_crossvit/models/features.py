"""Models that share the weights of a CrossViT: with one image input, and with the tokens of every stage as output."""

from __future__ import annotations

from typing import Any

import keras

from keras_crossvit.layers import BicubicResize
from keras_crossvit.models.config import BRANCHES, config_of
from keras_crossvit.models.graph import fusion_name


def single_image(model: Any) -> keras.Model:
    """Wraps a CrossViT in a model with one image input, from which it makes the second as the reference does.

    Args:
        model: A `CrossViT`.

    Returns:
        A model that shares the weights of `model`. Its input is `image`, normalized images of shape
        (B, height, width, channels) with `model.config.image_sizes[0]`. Its output is that of
        `model`, with the same name.

    Raises:
        TypeError: the model is not a `CrossViT`.

    Source: timm.models.crossvit.scale_image (bicubic, coefficient -0.75, no antialiasing).
    """
    config = config_of(model)
    image = keras.Input((*config.image_sizes[0], config.in_channels), name="image")
    large_patch_image = BicubicResize(*config.image_sizes[1], dtype="float32", name="large_patch_image")(image)
    outputs = model([image, large_patch_image])
    outputs = keras.layers.Identity(dtype=outputs.dtype, name=model.output_names[0])(outputs)
    return keras.Model(image, outputs, name=f"{model.name}_single_image")


def feature_extractor(model: Any) -> keras.Model:
    """Returns a model whose outputs are the tokens of every stage and branch.

    Args:
        model: A `CrossViT`.

    Returns:
        A model that shares the weights and inputs of `model`. It returns a dictionary with the tokens at the end of
        each stage, after the fusion: `stage_<stage>_small_patch` and `stage_<stage>_large_patch`, shape (B, 1 + N, C),
        class token first.

    Raises:
        TypeError: the model is not a `CrossViT`.
    """
    tokens = {
        f"stage_{stage}_{BRANCHES[branch]}": model.get_layer(fusion_name(stage, branch)).output
        for stage in range(len(config_of(model).depth))
        for branch in range(len(BRANCHES))
    }
    return keras.Model(model.inputs, tokens, name=f"{model.name}_features")
