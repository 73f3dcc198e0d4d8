"""From a branch's tokens to one vector per image."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_crossvit.layers._factories import layer_norm


@keras.saving.register_keras_serializable(package="keras_crossvit")
class TokenPooling(keras.layers.Layer):
    """Normalises tokens and keeps the class token, or averages the patch tokens.

    Args:
        average_patches: False keeps the class token, as the paper does; True averages the patch tokens instead, as
            timm's global_pool="avg" does. Defaults to False.

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
        return {**super().get_config(), "average_patches": self.average_patches}
