"""A CrossViT in words, as `print(model)` shows it."""

from __future__ import annotations

from typing import Any

from keras_crossvit._internal.user_text import one_line
from keras_crossvit.models.config import BRANCHES, CrossViTConfig, drop_path_rates


def describe(model: Any) -> str:
    """Returns a CrossViT's architecture, a line per branch, stage and output."""
    config = model.config
    lines = [f"CrossViT '{one_line(model.name)}', {model.count_params():,} parameters ("]
    lines += [f"  ({BRANCHES[b]}): {_branch(config, b)}" for b in range(len(BRANCHES))]
    lines += [f"  (stage_{stage}): {_stage(config, stage)}" for stage in range(len(config.depth))]
    lines += [f"  (output): {_output(model)}", ")"]
    return "\n".join(lines)


def activation_name(activation: Any) -> str | None:
    """Returns the name of an activation, or None for None."""
    import keras

    return None if activation is None else getattr(keras.activations.get(activation), "__name__", str(activation))


def _branch(config: CrossViTConfig, b: int) -> str:
    (height, width), (rows, columns), patch = config.image_sizes[b], config.patch_grids[b], config.patch_size[b]
    stem = "multi-conv stem" if config.multi_conv else "one convolution"
    return (
        f"{height}x{width}x{config.in_channels} image -> {stem}, {rows}x{columns} patches of {patch}x{patch} "
        f"-> 1 + {rows * columns} tokens of {config.embed_dim[b]}"
    )


def _stage(config: CrossViTConfig, stage: int) -> str:
    parts = []
    for b in range(len(BRANCHES)):
        blocks = config.depth[stage][b]
        parts.append(
            f"{blocks} {BRANCHES[b]} block{'s' if blocks > 1 else ''} "
            f"({config.num_heads[b]} heads, MLP {int(config.embed_dim[b] * config.mlp_ratio[b])})"
        )
    rounds = max(1, config.depth[stage][2])
    fusion = "cross-attention" if rounds == 1 else f"{rounds} rounds of cross-attention"
    drop_path = f", drop path to {drop_path_rates(config)[stage][-1]:.3g}" if config.drop_path_rate else ""
    return f"{parts[0]} | {parts[1]} -> {fusion} in both directions{drop_path}"


def _output(model: Any) -> str:
    pooled = "mean patch tokens" if model.pool == "avg" else "class tokens"
    widths = " + ".join(map(str, model.config.embed_dim))
    if model.config.num_classes == 0:
        return f"{pooled} concatenated, {widths} -> {sum(model.config.embed_dim)}"
    activation = activation_name(model.classifier_activation)
    heads = f"{pooled}, {widths} -> mean of {len(BRANCHES)} heads, {model.config.num_classes} classes"
    return f"{heads}, {activation}" if activation else heads
