"""One vector per image from a branch's tokens."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_crossvit.layers._factories import arguments_of, layer_norm


@keras.saving.register_keras_serializable(package="keras_crossvit")
class TokenPooling(keras.layers.Layer):
    """Normalizes tokens and returns the class token or the mean of the patch tokens.

    Args:
        average_patches: False returns the class token, as in the paper; True the mean of the patch tokens, as timm's
            global_pool="avg". Defaults to False.

    Inputs:
        Tokens of shape (B, 1 + N, C), class token first.

    Returns:
        Tensor of shape (B, C).

    Source: timm.models.crossvit.CrossVit.forward_features and forward_head.
    """

    def __init__(self, *, average_patches: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.average_patches = average_patches
        self.norm = layer_norm("norm", self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        self.norm.build(input_shape)

    def call(self, tokens: Any) -> Any:
        if self.average_patches:
            return ops.mean(self.norm(tokens[:, 1:]), axis=1)
        return ops.reshape(self.norm(tokens[:, :1]), (-1, tokens.shape[-1]))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **arguments_of(self, "average_patches")}
