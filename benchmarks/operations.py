"""How much work a picture is."""

from __future__ import annotations

from keras_crossvit.models.config import STEM_STRIDES, CrossViTConfig


def count_macs(config: CrossViTConfig) -> int:
    """Multiply-accumulates of one picture's inference: convolutions, dense products and attention.

    Normalisations, activations, softmax and sums are left out, as timm's counts leave them out. The class token being
    the only query of the fusion, its count is below timm's.

    Args:
        config: The architecture.

    Returns:
        Their number.
    """
    patches = [
        (height // patch) * (width // patch)
        for (height, width), patch in zip(config.image_sizes, config.patch_size, strict=True)
    ]
    total = sum(_embedding_macs(config, branch, patches[branch]) for branch in (0, 1))
    for depth in config.depth:
        for branch in (0, 1):
            own, partner = config.embed_dim[branch], config.embed_dim[1 - branch]
            total += depth[branch] * _block_macs(1 + patches[branch], own, config.mlp_ratio[branch])
            rounds = max(1, depth[2])
            total += 2 * own * partner + rounds * _fusion_macs(
                1 + patches[1 - branch], partner, config.num_heads[1 - branch]
            )
    return total + config.num_classes * sum(config.embed_dim)


def _embedding_macs(config: CrossViTConfig, branch: int, patches: int) -> int:
    channels, patch = config.embed_dim[branch], config.patch_size[branch]
    if not config.multi_conv:
        return patches * patch * patch * config.in_channels * channels
    first, second, third = STEM_STRIDES[patch]
    height, width = config.image_sizes[branch]
    widths = (config.in_channels, channels // 4, channels // 2, channels)
    total, reduction = 0, 1
    for i, (kernel, stride) in enumerate(zip((7, 3, 3), (first, second, third), strict=True)):
        reduction *= stride
        total += (height // reduction) * (width // reduction) * kernel * kernel * widths[i] * widths[i + 1]
    return total


def _block_macs(tokens: int, channels: int, mlp_ratio: float) -> int:
    dense = 4 * channels * channels + 2 * channels * int(channels * mlp_ratio)
    return tokens * dense + 2 * tokens * tokens * channels


def _fusion_macs(tokens: int, channels: int, heads: int) -> int:
    """Four dense products of one token, and the scores and sums of one query over tokens of full width per head."""
    return 4 * channels * channels + 2 * tokens * channels * heads
