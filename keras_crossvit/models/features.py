"""Models around a CrossViT: one image in, and the tokens of every stage out."""

from __future__ import annotations

from typing import Any

import keras

from keras_crossvit.layers import BicubicResize
from keras_crossvit.models.config import BRANCHES, config_of
from keras_crossvit.models.graph import fusion_name


def single_image(model: Any) -> keras.Model:
    """Wraps a CrossViT so that one image is enough; the second is made inside, as the reference makes it.

    Args:
        model: A `CrossViT`.

    Returns:
        A model that shares the weights of `model` and has one input, `image`: normalised images of shape
        (B, height, width, channels) at `model.config.image_sizes[0]`. Its output is that of `model`, by the same name.

    Raises:
        TypeError: the model is no `CrossViT`.

    Source: timm.models.crossvit.scale_image (bicubic, coefficient -0.75, no antialiasing).
    """
    config = config_of(model)
    (height, width), channels = config.image_sizes[0], config.in_channels
    image = keras.Input((height, width, channels), name="image")
    large_patch_image = BicubicResize(*config.image_sizes[1], dtype="float32", name="large_patch_image")(image)
    outputs = model([image, large_patch_image])
    outputs = keras.layers.Identity(dtype=outputs.dtype, name=model.output_names[0])(outputs)
    return keras.Model(image, outputs, name=f"{model.name}_single_image")


def feature_extractor(model: Any) -> keras.Model:
    """Gives the tokens of every stage and branch of a CrossViT.

    Args:
        model: A `CrossViT`.

    Returns:
        A model that shares the weights and the inputs of `model` and returns a dictionary: at
        `stage_<stage>_small_patch` and `stage_<stage>_large_patch` the tokens at the end of the stage, after fusion,
        shape (B, 1 + N, C), class token first.

    Raises:
        TypeError: the model is no `CrossViT`.
    """
    tokens = {
        f"stage_{stage}_{BRANCHES[branch]}": model.get_layer(fusion_name(stage, branch)).output
        for stage in range(len(config_of(model).depth))
        for branch in range(len(BRANCHES))
    }
    return keras.Model(model.inputs, tokens, name=f"{model.name}_features")
