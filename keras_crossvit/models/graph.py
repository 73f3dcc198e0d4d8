"""The paper's figure 2, from two images to the logits, as a functional Keras graph."""

from __future__ import annotations

from typing import Any

import keras

from keras_crossvit.layers import CrossAttentionFusion, PatchEmbedding, TokenEmbedding, TokenPooling, TransformerBlock
from keras_crossvit.layers._factories import dense
from keras_crossvit.models.config import BRANCHES, STEM_STRIDES, CrossViTConfig, drop_path_rates
from keras_crossvit.models.dtype_policies import output_policy


def crossvit_graph(
    config: CrossViTConfig, policy: Any, *, average_patches: bool, classifier_activation: Any
) -> tuple[list[Any], Any]:
    """Returns the symbolic inputs and output of a CrossViT.

    The output is the logits, or what `classifier_activation` computes from them, or without classes the pooled tokens.
    """
    branches = range(len(BRANCHES))
    images = [keras.Input((*config.image_sizes[b], config.in_channels), name=f"{BRANCHES[b]}_image") for b in branches]

    tokens = [_embed(config, policy, b, images[b]) for b in branches]
    for stage in range(len(config.depth)):
        tokens = [_encode(config, policy, b, stage, tokens[b]) for b in branches]
        tokens = [_fuse(config, policy, b, stage, tokens[b], partner=tokens[1 - b]) for b in branches]

    pooled = [
        TokenPooling(average_patches=average_patches, dtype=policy, name=f"{BRANCHES[b]}_pooling")(tokens[b])
        for b in branches
    ]
    if config.num_classes == 0:
        return images, keras.layers.Concatenate(dtype=output_policy(policy), name="pre_logits")(pooled)
    branch_logits = [
        dense(f"{BRANCHES[b]}_head", config.num_classes, output_policy(policy), always_init=True)(pooled[b])
        for b in branches
    ]
    logits = keras.layers.Average(dtype=output_policy(policy), name="logits")(branch_logits)
    if keras.activations.get(classifier_activation) is keras.activations.linear:  # also None
        return images, logits
    activation = keras.layers.Activation(classifier_activation, dtype=output_policy(policy), name="probabilities")
    return images, activation(logits)


def fusion_name(stage: int, branch: int) -> str:
    """Returns the name of the layer whose output is a branch's tokens at the end of a stage."""
    return f"stage_{stage}_{BRANCHES[branch]}_fusion"


def _embed(config: CrossViTConfig, policy: Any, b: int, image: Any) -> Any:
    stem_strides = STEM_STRIDES[config.patch_size[b]] if config.multi_conv else None
    patches = PatchEmbedding(
        config.embed_dim[b],
        config.patch_size[b],
        stem_strides=stem_strides,
        dtype=policy,
        name=f"{BRANCHES[b]}_embedding",
    )
    return TokenEmbedding(drop_rate=config.drop_rate, dtype=policy, name=f"{BRANCHES[b]}_tokens")(patches(image))


def _encode(config: CrossViTConfig, policy: Any, b: int, stage: int, tokens: Any) -> Any:
    for j in range(config.depth[stage][b]):
        tokens = TransformerBlock(
            config.embed_dim[b],
            config.num_heads[b],
            mlp_ratio=config.mlp_ratio[b],
            drop_path_rate=drop_path_rates(config)[stage][j],
            name=f"stage_{stage}_{BRANCHES[b]}_block_{j}",
            **_shared_arguments(config, policy),
        )(tokens)
    return tokens


def _fuse(config: CrossViTConfig, policy: Any, b: int, stage: int, tokens: Any, *, partner: Any) -> Any:
    return CrossAttentionFusion(
        config.embed_dim[b],
        config.embed_dim[1 - b],
        config.num_heads[1 - b],
        rounds=max(1, config.depth[stage][2]),
        drop_path_rate=drop_path_rates(config)[stage][-1],
        name=fusion_name(stage, b),
        **_shared_arguments(config, policy),
    )([tokens, partner])


def _shared_arguments(config: CrossViTConfig, policy: Any) -> dict[str, Any]:
    return {
        "qkv_bias": config.qkv_bias,
        "qk_scale": config.qk_scale,
        "drop_rate": config.drop_rate,
        "attn_drop_rate": config.attn_drop_rate,
        "dtype": policy,
    }
