"""The transformer block of a branch."""

from __future__ import annotations

from typing import Any

import keras

from keras_crossvit._internal.checks import require_positive
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.layers._factories import LayerWithAttentionScores, arguments_of, layer_norm
from keras_crossvit.layers.attention import Attention
from keras_crossvit.layers.drop_path import drop_path
from keras_crossvit.layers.mlp import MLP


@keras.saving.register_keras_serializable(package="keras_crossvit")
class TransformerBlock(LayerWithAttentionScores):
    """Pre-norm self-attention and MLP, each on a residual connection.

    Args:
        embed_dim: Channels C of the tokens.
        num_heads: Number of attention heads, a divisor of `embed_dim`.
        mlp_ratio: Hidden channels of the MLP divided by C. Defaults to 4.0.
        qkv_bias: Whether queries, keys and values have a bias. Defaults to True.
        qk_scale: Factor on the attention scores. Defaults to None, which is (C / H) ** -0.5.
        drop_rate: Dropout rate of the outputs of attention and MLP. Defaults to 0.0.
        attn_drop_rate: Dropout rate of the attention weights. Defaults to 0.0.
        drop_path_rate: Probability that a residual branch is dropped for a sample. Defaults to 0.0.
        gradient_checkpointing: Whether training recomputes attention and MLP for the gradient, which saves memory and
            costs time. Defaults to False.

    Inputs:
        Tokens of shape (B, 1 + N, C).

    Returns:
        Tokens of the same shape. Called with `return_attention_scores=True`, also the attention weights, shape
        (B, H, 1 + N, 1 + N).

    Raises:
        ValueError: `embed_dim` is not divisible by `num_heads`, `drop_path_rate` is outside [0, 1), or
            `gradient_checkpointing` is combined with dropout.

    Source: paper, section 3.1, equation 2; timm.models.crossvit.Block.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.mlp_ratio = require_positive("mlp_ratio", mlp_ratio)
        self.qkv_bias = qkv_bias
        self.qk_scale = qk_scale
        self.drop_rate = drop_rate
        self.attn_drop_rate = attn_drop_rate
        self.drop_path_rate = drop_path_rate
        self.gradient_checkpointing = gradient_checkpointing

        self.attention_norm = layer_norm("attention_norm", self.dtype_policy)
        attention = arguments_of(self, "qkv_bias", "qk_scale", "attn_drop_rate", "drop_rate")
        attention |= {"dtype": self.dtype_policy, "name": "attention"}
        self.attention = Attention(embed_dim, num_heads, **attention)
        self.attention_drop_path = drop_path("attention_drop_path", drop_path_rate, self.dtype_policy)
        self.mlp_norm = layer_norm("mlp_norm", self.dtype_policy)
        hidden_dim = int(embed_dim * mlp_ratio)
        self.mlp = MLP(embed_dim, hidden_dim, drop_rate=drop_rate, dtype=self.dtype_policy, name="mlp")
        self.mlp_drop_path = drop_path("mlp_drop_path", drop_path_rate, self.dtype_policy)

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether training recomputes attention and MLP for the gradient; compile the model again after a change."""
        return self._gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        if value and (self.drop_rate or self.attn_drop_rate):
            raise InvalidValueError(
                f"gradient_checkpointing cannot be combined with drop_rate {self.drop_rate:g} and attn_drop_rate "
                f"{self.attn_drop_rate:g}, because recomputing would drop other values; set both to 0."
            )
        self._gradient_checkpointing = bool(value)

    def build(self, input_shape: tuple) -> None:
        for layer in (self.attention_norm, self.attention, self.mlp_norm, self.mlp):
            layer.build(input_shape)

    def call(self, tokens: Any, training: bool | None = None, return_attention_scores: bool = False) -> Any:
        normalized, scores = self.attention_norm(tokens), None
        if return_attention_scores:
            attended, scores = self.attention(normalized, training=training, return_attention_scores=True)
        else:
            attended = self._run(self.attention, normalized, training)
        tokens = tokens + self.attention_drop_path(attended, training=training)
        transformed = self._run(self.mlp, self.mlp_norm(tokens), training)
        tokens = tokens + self.mlp_drop_path(transformed, training=training)
        return (tokens, scores) if return_attention_scores else tokens

    def scores_shape(self, input_shape: tuple) -> tuple:
        """Returns the shape of the attention weights."""
        return self.attention.scores_shape(input_shape)

    def _run(self, layer: keras.layers.Layer, tokens: Any, training: bool | None) -> Any:
        if not (training and self.gradient_checkpointing):
            return layer(tokens, training=training)
        # `keras.RematScope` fails on TensorFlow for layers called with training=, and `keras.remat` takes only tensors.
        return keras.remat(lambda inputs: layer(inputs, training=training))(tokens)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        arguments = ["embed_dim", "num_heads", "mlp_ratio", "qkv_bias", "qk_scale", "drop_rate", "attn_drop_rate"]
        arguments += ["drop_path_rate", "gradient_checkpointing"]
        return {**super().get_config(), **arguments_of(self, *arguments)}
