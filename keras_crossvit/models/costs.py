"""Parameters and multiply-accumulates of every layer, known from the configuration."""

from __future__ import annotations

import math
from collections import defaultdict

from keras_crossvit.checkpoints.names import layer_names, token_names
from keras_crossvit.checkpoints.shapes import tensor_shapes
from keras_crossvit.models.config import BRANCHES, STEM_KERNEL_SIZES, STEM_STRIDES, CrossViTConfig


def count_parameters(config: CrossViTConfig) -> dict[str, int]:
    """Returns the number of parameters of every layer of the model that has some, by the layers' names."""
    paths = {name: path for path, name in (*token_names().items(), *layer_names(config).items())}
    counts: dict[str, int] = defaultdict(int)
    for name, shape in tensor_shapes(config).items():
        path = paths[name] if name in paths else paths[name.rpartition(".")[0]]
        counts[path.partition("/")[0]] += math.prod(shape)
    return dict(counts)


def count_macs(config: CrossViTConfig) -> dict[str, int]:
    """Returns the multiply-accumulates of one image's forward pass in every layer that has some, by the layers' names.

    Convolutions, dense layers and attention are counted; normalization, activations, softmax and sums are left out, as
    in timm's tables. The counts of the fusions are below timm's because the class token is the only query.
    """
    counts, tokens = {}, [1 + rows * columns for rows, columns in config.patch_grids]
    for b, name in enumerate(BRANCHES):
        channels, partner = config.embed_dim[b], config.embed_dim[1 - b]
        counts[f"{name}_embedding"] = _embedding_macs(config, b)
        for s, depth in enumerate(config.depth):
            for j in range(depth[b]):
                counts[f"stage_{s}_{name}_block_{j}"] = _block_macs(tokens[b], channels, config.mlp_ratio[b])
            # The projections of one token, then scores and weighted sums of one query in every head.
            attention = 4 * partner**2 + 2 * tokens[1 - b] * partner * config.num_heads[1 - b]
            # The class token is projected to the partner's channels and back.
            counts[f"stage_{s}_{name}_fusion"] = 2 * channels * partner + max(1, depth[2]) * attention
        counts[f"{name}_head"] = config.num_classes * channels
    return counts


def _embedding_macs(config: CrossViTConfig, branch: int) -> int:
    channels, patch = config.embed_dim[branch], config.patch_size[branch]
    rows, columns = config.patch_grids[branch]
    if not config.multi_conv:
        return rows * columns * patch**2 * config.in_channels * channels
    (height, width), total = config.image_sizes[branch], 0
    widths = (config.in_channels, channels // 4, channels // 2, channels)
    for i, (kernel, stride) in enumerate(zip(STEM_KERNEL_SIZES, STEM_STRIDES[patch], strict=True)):
        height, width = height // stride, width // stride
        total += height * width * kernel**2 * widths[i] * widths[i + 1]
    return total


def _block_macs(tokens: int, channels: int, mlp_ratio: float) -> int:
    dense = 4 * channels**2 + 2 * channels * int(channels * mlp_ratio)
    return tokens * dense + 2 * tokens**2 * channels
