"""How to build and call each layer, for the contract tests."""

import numpy as np

from keras_crossvit import layers


class Case:
    def __init__(self, make, *input_shapes, output_shape, random=False):
        self.make = make
        self.input_shapes = input_shapes
        self.output_shape = output_shape
        self.random = random

    def inputs(self, dtype="float32"):
        random = np.random.default_rng(7)
        arrays = [random.normal(size=shape).astype(dtype) for shape in self.input_shapes]
        return arrays if len(arrays) > 1 else arrays[0]


DROPS = {"drop_rate": 0.3, "attn_drop_rate": 0.3, "drop_path_rate": 0.5}
TOKENS = (8, 5, 12)

CASES = {
    "attention": Case(lambda: layers.Attention(12, 3), TOKENS, output_shape=TOKENS),
    "attention_without_bias": Case(lambda: layers.Attention(12, 3, qkv_bias=False), TOKENS, output_shape=TOKENS),
    "attention_with_dropout": Case(
        lambda: layers.Attention(12, 3, attn_drop_rate=0.5, drop_rate=0.2), TOKENS, output_shape=TOKENS, random=True
    ),
    "attention_of_class_token": Case(
        lambda: layers.Attention(12, 3, cls_query_only=True), TOKENS, output_shape=(8, 1, 12)
    ),
    "attention_of_class_token_with_dropout": Case(
        lambda: layers.Attention(12, 3, cls_query_only=True, qk_scale=0.4, attn_drop_rate=0.5),
        TOKENS,
        output_shape=(8, 1, 12),
        random=True,
    ),
    "bicubic_resize": Case(lambda: layers.BicubicResize(5, 9), (2, 8, 6, 3), output_shape=(2, 5, 9, 3)),
    "drop_path": Case(lambda: layers.DropPath(0.5, seed=3), TOKENS, output_shape=TOKENS, random=True),
    "drop_path_of_rate_0": Case(lambda: layers.DropPath(), TOKENS, output_shape=TOKENS),
    "mlp": Case(lambda: layers.MLP(12, 20), TOKENS, output_shape=TOKENS),
    "mlp_with_dropout": Case(lambda: layers.MLP(12, 20, drop_rate=0.5), TOKENS, output_shape=TOKENS, random=True),
    "patch_embedding": Case(lambda: layers.PatchEmbedding(8, 6), (2, 12, 18, 3), output_shape=(2, 6, 8)),
    "patch_embedding_with_stem_of_12": Case(
        lambda: layers.PatchEmbedding(8, 12, stem_strides=(4, 3, 1)), (2, 24, 36, 3), output_shape=(2, 6, 8)
    ),
    "patch_embedding_with_stem_of_16": Case(
        lambda: layers.PatchEmbedding(8, 16, stem_strides=[4, 2, 2]), (2, 32, 16, 1), output_shape=(2, 2, 8)
    ),
    "token_embedding": Case(lambda: layers.TokenEmbedding(), (8, 4, 12), output_shape=TOKENS),
    "token_embedding_with_dropout": Case(
        lambda: layers.TokenEmbedding(drop_rate=0.5), (8, 4, 12), output_shape=TOKENS, random=True
    ),
    "token_pooling": Case(lambda: layers.TokenPooling(), TOKENS, output_shape=(8, 12)),
    "token_pooling_of_patches": Case(lambda: layers.TokenPooling(average_patches=True), TOKENS, output_shape=(8, 12)),
    "transformer_block": Case(lambda: layers.TransformerBlock(12, 3, mlp_ratio=2), TOKENS, output_shape=TOKENS),
    "transformer_block_with_dropout": Case(
        lambda: layers.TransformerBlock(12, 3, mlp_ratio=1.5, qk_scale=0.4, **DROPS),
        TOKENS,
        output_shape=TOKENS,
        random=True,
    ),
    "fusion": Case(lambda: layers.CrossAttentionFusion(12, 8, 2), TOKENS, (8, 3, 8), output_shape=TOKENS),
    "fusion_of_two_rounds_with_dropout": Case(
        lambda: layers.CrossAttentionFusion(12, 8, 2, rounds=2, qkv_bias=False, **DROPS),
        TOKENS,
        (8, 3, 8),
        output_shape=TOKENS,
        random=True,
    ),
}
