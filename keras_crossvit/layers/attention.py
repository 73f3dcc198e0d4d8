"""Multi-head attention of the blocks and of the fusions."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_crossvit._internal.checks import require_heads_divide, require_integer
from keras_crossvit._internal.flash_attention import flash_attention, has_flash_attention
from keras_crossvit.layers._factories import LayerWithAttentionScores, arguments_of, as_rows, dense, dropout


@keras.saving.register_keras_serializable(package="keras_crossvit")
class Attention(LayerWithAttentionScores):
    """Multi-head scaled dot-product attention, with all tokens or only the class token as queries.

    Args:
        embed_dim: Channels C of the tokens, a multiple of `num_heads`.
        num_heads: Number of heads H; each has D = C / H channels.
        cls_query_only: False for self-attention of all tokens, with one projection for queries, keys and values. True
            for cross-attention: only the class token is a query, with three projections. Defaults to False.
        qkv_bias: Whether queries, keys and values have a bias. Defaults to True.
        qk_scale: Factor on the attention scores. Defaults to None, which is D ** -0.5.
        attn_drop_rate: Dropout rate of the attention weights. Defaults to 0.0.
        drop_rate: Dropout rate of the output. Defaults to 0.0.

    Inputs:
        Tokens of shape (B, 1 + N, C), class token first.

    Returns:
        Tokens of shape (B, 1 + N, C), or (B, 1, C) with `cls_query_only`. Called with `return_attention_scores=True`,
        also the attention weights, shape (B, H, 1 + N, 1 + N) or (B, H, 1, 1 + N); each row sums to 1.

    Raises:
        ValueError: `embed_dim` is not divisible by `num_heads`.

    Source: paper, section 3.3, equation 4; timm.models.crossvit.CrossAttention, timm's vision_transformer.Attention.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        cls_query_only: bool = False,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.embed_dim = require_integer("embed_dim", embed_dim, minimum=1)
        self.num_heads = require_integer("num_heads", num_heads, minimum=1)
        require_heads_divide("embed_dim", self.embed_dim, self.num_heads)
        self.cls_query_only = cls_query_only
        self.qkv_bias = qkv_bias
        self.qk_scale = qk_scale
        self.attn_drop_rate = attn_drop_rate
        self.drop_rate = drop_rate

        self.head_dim = self.embed_dim // self.num_heads
        self.scale = self.head_dim**-0.5 if qk_scale is None else qk_scale
        if cls_query_only:
            self.query = dense("query", self.embed_dim, self.dtype_policy, use_bias=qkv_bias)
            self.key = dense("key", self.embed_dim, self.dtype_policy, use_bias=qkv_bias)
            self.value = dense("value", self.embed_dim, self.dtype_policy, use_bias=qkv_bias)
        else:
            self.qkv = dense("qkv", 3 * self.embed_dim, self.dtype_policy, use_bias=qkv_bias)
        self.projection = dense("projection", self.embed_dim, self.dtype_policy)
        self.weights_dropout = dropout("weights_dropout", attn_drop_rate, self.dtype_policy)
        self.projection_dropout = dropout("projection_dropout", drop_rate, self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        inner = (self.query, self.key, self.value) if self.cls_query_only else (self.qkv,)
        for layer in (*inner, self.projection):
            layer.build(input_shape)

    def call(self, tokens: Any, training: bool | None = None, return_attention_scores: bool = False) -> Any:
        if not return_attention_scores and self._can_use_flash_attention(training):
            return self._flash_attention(tokens, training=training)
        if not self.cls_query_only:
            attended, weights = self._attend(
                tokens, *ops.split(self.qkv(as_rows(tokens)), 3, axis=-1), training=training
            )
        elif self.key.quantization_mode is None and self.value.quantization_mode is None:
            attended, weights = self._attend_from_class_token(tokens, training=training)
        else:  # a quantized kernel is not a plain matrix, so the layers have to project every token themselves
            rows = as_rows(tokens)
            query = self.query(as_rows(tokens[:, :1]))
            attended, weights = self._attend(tokens, query, self.key(rows), self.value(rows), training=training)
        projected = self.projection_dropout(self.projection(attended), training=training)
        projected = ops.reshape(projected, (-1, self._num_queries(tokens), self.embed_dim))
        if not return_attention_scores:
            return projected
        return projected, ops.reshape(weights, (-1, *self.scores_shape(tokens.shape)[1:]))

    def scores_shape(self, input_shape: tuple) -> tuple:
        """Returns the shape of the attention weights."""
        batch, num_tokens, _ = input_shape
        return (batch, self.num_heads, 1 if self.cls_query_only else num_tokens, num_tokens)

    def _can_use_flash_attention(self, training: bool | None) -> bool:
        drops_weights = training and self.attn_drop_rate > 0
        return not self.cls_query_only and not drops_weights and has_flash_attention(self.compute_dtype, self.head_dim)

    def _flash_attention(self, tokens: Any, *, training: bool | None) -> Any:
        by_head = (-1, tokens.shape[1], self.num_heads, self.head_dim)
        query, key, value = (ops.reshape(each, by_head) for each in ops.split(self.qkv(as_rows(tokens)), 3, axis=-1))
        attended = flash_attention(query, key, value, self.scale)
        projected = self.projection(ops.reshape(attended, (-1, self.embed_dim)))
        projected = ops.reshape(projected, (-1, attended.shape[1], self.embed_dim))[:, : tokens.shape[1]]
        return self.projection_dropout(projected, training=training)

    def _num_queries(self, tokens: Any) -> Any:
        return 1 if self.cls_query_only else ops.shape(tokens)[1]

    def _attend(self, tokens: Any, query: Any, key: Any, value: Any, *, training: bool | None) -> tuple[Any, Any]:
        """Computes softmax(q k^T) v, all as rows (B * T, C), and returns it with the softmax."""
        query = self._split_heads(query, self._num_queries(tokens))
        key, value = (self._split_heads(each, ops.shape(tokens)[1]) for each in (key, value))
        scores = ops.matmul(query * self.scale, ops.transpose(key, (0, 1, 3, 2)))
        weights = ops.softmax(scores, axis=-1)
        attended = ops.matmul(self.weights_dropout(weights, training=training), value)
        return ops.reshape(ops.transpose(attended, (0, 2, 1, 3)), (-1, self.embed_dim)), weights

    def _split_heads(self, rows: Any, num_tokens: Any) -> Any:
        """(B * T, C) -> (B, H, T, D)."""
        split = ops.reshape(rows, (-1, num_tokens, self.num_heads, self.head_dim))
        return ops.transpose(split, (0, 2, 1, 3))

    def _attend_from_class_token(self, tokens: Any, *, training: bool | None) -> tuple[Any, Any]:
        """Computes `_attend` for one query without projecting keys and values of every token.

        With W_k and W_v the kernels of a head, the score q . (W_k x) is x . (W_k q), and the output sum a (W_v x) is
        W_v (sum a x): the same numbers for C / H times fewer multiplications. The key bias adds q . b_k to all scores
        of a head and cancels in the softmax; it is kept because Keras warns of variables without a gradient.
        """
        by_head = (self.embed_dim, self.num_heads, self.head_dim)
        query = ops.reshape(self.query(as_rows(tokens[:, :1])) * self.scale, (-1, self.num_heads, self.head_dim))
        channel_query = ops.einsum("bhd,chd->bhc", query, ops.reshape(self.key.kernel, by_head))
        scores = ops.matmul(channel_query, ops.transpose(tokens, (0, 2, 1)))
        if self.qkv_bias:
            scores = scores + ops.sum(query * ops.reshape(self.key.bias, by_head[1:]), axis=-1, keepdims=True)
        weights = ops.softmax(scores, axis=-1)
        kept = self.weights_dropout(weights, training=training)
        attended = ops.einsum("bhc,chd->bhd", ops.matmul(kept, tokens), ops.reshape(self.value.kernel, by_head))
        if self.qkv_bias:
            bias = ops.reshape(self.value.bias, by_head[1:])
            attended = attended + ops.sum(kept, axis=-1, keepdims=True) * bias  # the sum is 1, except after dropout
        return ops.reshape(attended, (-1, self.embed_dim)), weights

    def values(self, tokens: Any) -> Any:
        """Returns the values of tokens (B, T, C) in each head, (B, H, T, D)."""
        rows = as_rows(tokens)
        projected = self.value(rows) if self.cls_query_only else ops.split(self.qkv(rows), 3, axis=-1)[2]
        return self._split_heads(projected, ops.shape(tokens)[1])

    def project(self, attended: Any) -> Any:
        """Projects what the heads have read, (B, H, Q, D), to tokens (B, Q, C)."""
        rows = ops.reshape(ops.transpose(attended, (0, 2, 1, 3)), (-1, self.embed_dim))
        return ops.reshape(self.projection(rows), (-1, attended.shape[2], self.embed_dim))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], 1, input_shape[2]) if self.cls_query_only else input_shape

    def get_config(self) -> dict[str, Any]:
        arguments = ("embed_dim", "num_heads", "cls_query_only", "qkv_bias", "qk_scale", "attn_drop_rate", "drop_rate")
        return {**super().get_config(), **arguments_of(self, *arguments)}
