"""The MLP of a transformer block."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_crossvit._internal.checks import require_integer
from keras_crossvit.layers._backend_operations import gelu
from keras_crossvit.layers._factories import arguments_of, as_rows, dense, dropout


@keras.saving.register_keras_serializable(package="keras_crossvit")
class MLP(keras.layers.Layer):
    """Applies a dense layer, exact GELU and a second dense layer to each token.

    Args:
        embed_dim: Channels C of the tokens.
        hidden_dim: Channels between the two dense layers.
        drop_rate: Dropout rate after each of the two dense layers. Defaults to 0.0.

    Inputs:
        Tokens of shape (B, 1 + N, C).

    Returns:
        Tokens of the same shape.

    Raises:
        ValueError: a dimension is not a positive integer.

    Source: paper, section 3.1, equation 2; timm.layers.Mlp.
    """

    def __init__(self, embed_dim: int, hidden_dim: int, *, drop_rate: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.embed_dim = require_integer("embed_dim", embed_dim, minimum=1)
        self.hidden_dim = require_integer("hidden_dim", hidden_dim, minimum=1)
        self.drop_rate = drop_rate
        self.expansion = dense("expansion", self.hidden_dim, self.dtype_policy)
        self.projection = dense("projection", self.embed_dim, self.dtype_policy)
        self.expansion_dropout = dropout("expansion_dropout", drop_rate, self.dtype_policy)
        self.projection_dropout = dropout("projection_dropout", drop_rate, self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        self.expansion.build(input_shape)
        self.projection.build((*input_shape[:-1], self.hidden_dim))

    def call(self, tokens: Any, training: bool | None = None) -> Any:
        hidden = self.expansion_dropout(gelu(self.expansion(as_rows(tokens)), training), training=training)
        projected = self.projection_dropout(self.projection(hidden), training=training)
        return ops.reshape(projected, (-1, ops.shape(tokens)[1], self.embed_dim))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **arguments_of(self, "embed_dim", "hidden_dim", "drop_rate")}
