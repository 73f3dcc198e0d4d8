"""Models that share the weights of a CrossViT: with one image input, and with the tokens of every stage as output."""

from __future__ import annotations

from typing import Any

import keras

from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit.layers import BicubicResize, CrossAttentionFusion, TransformerBlock
from keras_crossvit.models.config import BRANCHES, CrossViTConfig, config_of
from keras_crossvit.models.graph import fusion_name


@known_keywords_only
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
    image, outputs = _from_one_image(model, config_of(model))
    outputs = keras.layers.Identity(dtype=outputs.dtype, name=model.output_names[0])(outputs)
    return keras.Model(image, outputs, name=f"{model.name}_single_image")


def _from_one_image(model: Any, config: CrossViTConfig) -> tuple[Any, Any]:
    """Returns the symbolic image and the outputs of a model of both images."""
    image = keras.Input((*config.image_sizes[0], config.in_channels), name="image")
    large_patch_image = BicubicResize(*config.image_sizes[1], dtype="float32", name="large_patch_image")(image)
    return image, model([image, large_patch_image])


def original_of(model: Any) -> Any:
    """Returns the CrossViT in a model from `single_image`, and any other model as it is."""
    kinds = [type(layer).__name__ for layer in getattr(model, "layers", ())]
    return model.layers[2] if kinds == ["InputLayer", "BicubicResize", "CrossViT", "Identity"] else model


@known_keywords_only
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


@known_keywords_only
def attention_maps(model: Any) -> keras.Model:
    """Returns a model whose outputs are the attention weights of every transformer block and fusion.

    Args:
        model: A `CrossViT`, or a model from `single_image`.

    Returns:
        A model that shares the weights and inputs of `model`. It returns a dictionary by the names of the layers:
        weights of shape (B, H, 1 + N, 1 + N) of each `stage_<stage>_<branch>_block_<i>`, and of shape (B, H, 1, 1 + M)
        of each `stage_<stage>_<branch>_fusion`, whose class token attends to itself and the partner's M patches. Token
        0 is the class token. Each row sums to 1.

    Raises:
        TypeError: the model is neither of them.

    Source: paper, section 3.3, equation 4.
    """
    wrapped = [
        layer for layer in getattr(model, "layers", ()) if isinstance(getattr(layer, "config", None), CrossViTConfig)
    ]
    original = wrapped[0] if len(wrapped) == 1 else model
    config = config_of(original)
    maps = {
        layer.name: _AttentionMap(layer, name=f"{layer.name}_attention")(layer.input)
        for layer in original.layers
        if isinstance(layer, (TransformerBlock, CrossAttentionFusion))
    }
    found = keras.Model(original.inputs, maps, name=f"{model.name}_attention")
    if original is model:
        return found
    return keras.Model(*_from_one_image(found, config), name=f"{model.name}_attention")


class _AttentionMap(keras.layers.Layer):
    """Computes the attention weights of a block or a fusion from what that layer is called with."""

    def __init__(self, layer: TransformerBlock | CrossAttentionFusion, **kwargs: Any) -> None:
        super().__init__(dtype=layer.dtype_policy, **kwargs)
        self.layer = layer
        self.built = True

    def call(self, inputs: Any) -> Any:
        if isinstance(self.layer, TransformerBlock):  # without its MLP
            normalized = self.layer.attention_norm(inputs)
            return self.layer.attention(normalized, training=False, return_attention_scores=True)[1]
        return self.layer(inputs, training=False, return_attention_scores=True)[1]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return self.layer.scores_shape(input_shape)
