"""The paper's figure 2, from two images to the logits, in Keras' functional API."""

from __future__ import annotations

from typing import Any

import keras

from keras_crossvit.layers import CrossAttentionFusion, PatchEmbedding, TokenEmbedding, TokenPooling, TransformerBlock
from keras_crossvit.layers._factories import dense, float32_of
from keras_crossvit.models.config import BRANCHES, STEM_STRIDES, CrossViTConfig, drop_path_rates

HALF_PRECISIONS = ("float16", "bfloat16")


def crossvit_graph(
    config: CrossViTConfig, policy: Any, *, average_patches: bool, classifier_activation: Any
) -> tuple[list[Any], Any]:
    """Symbolic inputs and output of a CrossViT.

    Args:
        config: The architecture.
        policy: Dtype policy of the layers.
        average_patches: Whether the mean of the patch tokens is classified in place of the class token.
        classifier_activation: Activation on the logits, or None.

    Returns:
        The two images, and the logits, what the activation makes of them, or without classes the pooled tokens.
    """
    branches = range(len(BRANCHES))
    stages = range(len(config.depth))
    output_policy = float32_of(policy) if policy.compute_dtype in HALF_PRECISIONS else policy

    images = [_image(config, b) for b in branches]
    tokens = [_embed(config, policy, b)(images[b]) for b in branches]
    for stage in stages:
        for b in branches:
            for block in _encoder(config, policy, b, stage):
                tokens[b] = block(tokens[b])
        tokens = [_fusion(config, policy, b, stage)([tokens[b], tokens[1 - b]]) for b in branches]
    pooled = [
        TokenPooling(average_patches=average_patches, dtype=policy, name=f"{BRANCHES[b]}_pooling")(tokens[b])
        for b in branches
    ]
    if config.num_classes == 0:
        return images, keras.layers.Concatenate(dtype=output_policy, name="pre_logits")(pooled)
    branch_logits = [
        dense(f"{BRANCHES[b]}_head", config.num_classes, output_policy, always_init=True)(pooled[b]) for b in branches
    ]
    logits = keras.layers.Average(dtype=output_policy, name="logits")(branch_logits)
    if keras.activations.get(classifier_activation) is keras.activations.linear:  # None, too
        return images, logits
    return images, keras.layers.Activation(classifier_activation, dtype=output_policy, name="probabilities")(logits)


def fusion_name(stage: int, branch: int) -> str:
    """Name of the layer whose output is a branch's tokens at the end of a stage."""
    return f"stage_{stage}_{BRANCHES[branch]}_fusion"


def _image(config: CrossViTConfig, b: int) -> Any:
    return keras.Input((*config.image_sizes[b], config.in_channels), name=f"{BRANCHES[b]}_image")


def _embed(config: CrossViTConfig, policy: Any, b: int) -> Any:
    patches = PatchEmbedding(
        config.embed_dim[b],
        config.patch_size[b],
        stem_strides=STEM_STRIDES[config.patch_size[b]] if config.multi_conv else None,
        dtype=policy,
        name=f"{BRANCHES[b]}_embedding",
    )
    tokens = TokenEmbedding(drop_rate=config.drop_rate, dtype=policy, name=f"{BRANCHES[b]}_tokens")
    return lambda image: tokens(patches(image))


def _encoder(config: CrossViTConfig, policy: Any, b: int, stage: int) -> list[TransformerBlock]:
    return [
        TransformerBlock(
            config.embed_dim[b],
            config.num_heads[b],
            mlp_ratio=config.mlp_ratio[b],
            drop_path_rate=drop_path_rates(config)[stage][j],
            name=f"stage_{stage}_{BRANCHES[b]}_block_{j}",
            **_attention_arguments(config, policy),
        )
        for j in range(config.depth[stage][b])
    ]


def _fusion(config: CrossViTConfig, policy: Any, b: int, stage: int) -> CrossAttentionFusion:
    return CrossAttentionFusion(
        config.embed_dim[b],
        config.embed_dim[1 - b],
        config.num_heads[1 - b],
        rounds=max(1, config.depth[stage][2]),
        drop_path_rate=drop_path_rates(config)[stage][-1],
        name=fusion_name(stage, b),
        **_attention_arguments(config, policy),
    )


def _attention_arguments(config: CrossViTConfig, policy: Any) -> dict[str, Any]:
    return {
        "qkv_bias": config.qkv_bias,
        "qk_scale": config.qk_scale,
        "drop_rate": config.drop_rate,
        "attn_drop_rate": config.attn_drop_rate,
        "dtype": policy,
    }
