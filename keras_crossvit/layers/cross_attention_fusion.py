"""The cross-attention fusion of the two branches, the paper's contribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_crossvit._internal.checks import require_integer
from keras_crossvit.layers._backend_operations import replace_class_token
from keras_crossvit.layers._factories import LayerWithAttentionScores, arguments_of, as_rows, dense, layer_norm
from keras_crossvit.layers.attention import Attention
from keras_crossvit.layers.drop_path import drop_path


@keras.saving.register_keras_serializable(package="keras_crossvit")
class CrossAttentionFusion(LayerWithAttentionScores):
    """Lets a branch's class token attend to the patch tokens of the partner branch.

    The class token is normalized, passed through GELU and projected to the partner's channels. There it attends to
    itself and the partner's patch tokens, on a residual connection. Then it is normalized, passed through GELU and
    projected back. The branch's own patch tokens pass through unchanged. Both fusions of a stage read the tokens from
    before the fusion.

    Args:
        embed_dim: Channels C of the branch's own tokens.
        partner_dim: Channels of the partner's tokens, in which the attention takes place.
        num_heads: Number of attention heads of the partner, a divisor of `partner_dim`.
        rounds: How often the class token attends to the patch tokens. Defaults to 1.
        qkv_bias: Whether queries, keys and values have a bias. Defaults to True.
        qk_scale: Factor on the attention scores. Defaults to None, which is (partner_dim / H) ** -0.5.
        drop_rate: Dropout rate of the attention's output. Defaults to 0.0.
        attn_drop_rate: Dropout rate of the attention weights. Defaults to 0.0.
        drop_path_rate: Probability that the attention is dropped for a sample. Defaults to 0.0.

    Inputs:
        List of the branch's own tokens, shape (B, 1 + N, C), and the partner's, shape (B, 1 + M, partner_dim).

    Returns:
        The branch's own tokens, shape (B, 1 + N, C), with a new class token. Called with
        `return_attention_scores=True`, also the attention weights of the last round, shape (B, H, 1, 1 + M).

    Raises:
        ValueError: `partner_dim` is not divisible by `num_heads`, `rounds` is below 1, or `drop_path_rate` is outside
            [0, 1).

    Source: paper, section 3.3, figure 4; timm.models.crossvit.MultiScaleBlock. In the reference, the second and later
    rounds only see the class token; here they attend to the patch tokens again, as the paper describes.
    """

    def __init__(
        self,
        embed_dim: int,
        partner_dim: int,
        num_heads: int,
        *,
        rounds: int = 1,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.embed_dim = embed_dim
        self.partner_dim = partner_dim
        self.num_heads = num_heads
        self.rounds = require_integer("rounds", rounds, minimum=1)
        self.qkv_bias = qkv_bias
        self.qk_scale = qk_scale
        self.drop_rate = drop_rate
        self.attn_drop_rate = attn_drop_rate
        self.drop_path_rate = drop_path_rate

        self.own_norm = layer_norm("own_norm", self.dtype_policy)
        self.to_partner = dense("to_partner", partner_dim, self.dtype_policy)
        self.attention_norms, self.attentions, self.drop_paths = [], [], []
        for i in range(self.rounds):
            self.attention_norms.append(layer_norm(f"attention_norm_{i}", self.dtype_policy))
            attention = arguments_of(self, "qkv_bias", "qk_scale", "attn_drop_rate", "drop_rate")
            attention |= {"cls_query_only": True, "dtype": self.dtype_policy, "name": f"attention_{i}"}
            self.attentions.append(Attention(partner_dim, num_heads, **attention))
            self.drop_paths.append(drop_path(f"drop_path_{i}", drop_path_rate, self.dtype_policy))
        # tf.train.Checkpoint does not see lists of layers, so they are in a tuple too. The lists stay because their
        # order is the order of variables in saved optimizers.
        self.layers_with_weights = (*self.attention_norms, *self.attentions)
        self.partner_norm = layer_norm("partner_norm", self.dtype_policy)
        self.to_own = dense("to_own", embed_dim, self.dtype_policy)

    def build(self, input_shape: Sequence[tuple]) -> None:
        own_shape, partner_shape = input_shape
        for layer in (self.own_norm, self.to_partner):
            layer.build(own_shape)
        for layer in (*self.layers_with_weights, self.partner_norm, self.to_own):
            layer.build(partner_shape)

    def call(self, inputs: Sequence[Any], training: bool | None = None, return_attention_scores: bool = False) -> Any:
        own, partner = inputs
        class_token, scores = self.to_partner_channels(own[:, :1]), None
        for norm, attention, drop in zip(self.attention_norms, self.attentions, self.drop_paths, strict=True):
            tokens = replace_class_token(partner, class_token)
            attended = attention(norm(tokens), training=training, return_attention_scores=return_attention_scores)
            attended, scores = attended if return_attention_scores else (attended, None)
            class_token = class_token + drop(attended, training=training)
        fused = replace_class_token(own, self.to_own_channels(class_token))
        return (fused, scores) if return_attention_scores else fused

    def to_partner_channels(self, class_token: Any) -> Any:
        """Translates class tokens (B, 1, C) to (B, 1, partner_dim)."""
        return self._translate(self.own_norm, self.to_partner, class_token)

    def to_own_channels(self, class_token: Any) -> Any:
        """Translates class tokens (B, 1, partner_dim) to (B, 1, C)."""
        return self._translate(self.partner_norm, self.to_own, class_token)

    def scores_shape(self, input_shape: Sequence[tuple]) -> tuple:
        """Returns the shape of the attention weights."""
        return self.attentions[-1].scores_shape(input_shape[1])

    @staticmethod
    def _translate(norm: keras.layers.Layer, projection: keras.layers.Dense, class_token: Any) -> Any:
        """Projects class tokens (B, 1, C) to the channels of the other branch."""
        translated = projection(as_rows(ops.gelu(norm(class_token), approximate=False)))
        return ops.reshape(translated, (-1, 1, projection.units))

    def compute_output_shape(self, input_shape: Sequence[tuple]) -> tuple:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        arguments = ["embed_dim", "partner_dim", "num_heads", "rounds", "qkv_bias", "qk_scale"]
        arguments += ["drop_rate", "attn_drop_rate", "drop_path_rate"]
        return {**super().get_config(), **arguments_of(self, *arguments)}
