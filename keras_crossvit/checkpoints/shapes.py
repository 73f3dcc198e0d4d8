"""Shapes of the tensors of a CrossViT, known without building it."""

from __future__ import annotations

from typing import Any

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.checkpoints.names import layer_names, token_names
from keras_crossvit.models.config import BRANCHES, STEM_KERNEL_SIZES, CrossViTConfig


def tensor_shapes(config: CrossViTConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shapes in timm's layout of all tensors of a CrossViT, by timm's names.

    A file that describes its model is compared with them before the model is built, since a small file may describe a
    model that no memory can hold.

    Args:
        config: Architecture of the model. Its number of blocks should be known to be possible.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    grids = config.patch_grids
    for b, branch in enumerate(BRANCHES):
        dim = config.embed_dim[b]
        tokens = 1 + grids[b][0] * grids[b][1]
        shapes[token_names()[f"{branch}_tokens/class_token"]] = (1, 1, dim)
        shapes[token_names()[f"{branch}_tokens/position_embedding"]] = (1, tokens, dim)
    for path, name in layer_names(config).items():
        weight = _weight_shape(path, config)
        if weight is None:
            continue
        shapes[f"{name}.weight"] = weight
        if config.qkv_bias or path.rpartition("/")[2] not in ("qkv", "query", "key", "value"):
            shapes[f"{name}.bias"] = weight[:1]
    return shapes


def require_possible_depth(depth: Any, tensors: int) -> None:
    """Raises `InvalidValueError` if a description, of any type, has more blocks than its file has tensors."""
    stages = [each for each in depth if isinstance(each, list)] if isinstance(depth, list) else []
    blocks = sum(number for stage in stages for number in stage if isinstance(number, int))
    if blocks > tensors:
        raise InvalidValueError(f"it describes {blocks} blocks, but there are only {tensors} tensors")


def _weight_shape(path: str, config: CrossViTConfig) -> tuple[int, ...] | None:
    """Returns the shape of a layer's kernel or scale; None for a head of a model without classes."""
    b = next(b for b, branch in enumerate(BRANCHES) if branch in path)
    own, partner = config.embed_dim[b], config.embed_dim[1 - b]
    part = path.rpartition("/")[2]
    if part.startswith("convolution_"):
        return _stem_shape(b, int(part.removeprefix("convolution_")), config)
    if path.endswith("_head"):
        return (config.num_classes, own) if config.num_classes else None
    hidden = int(own * config.mlp_ratio[b])
    if "_fusion/" in path:
        if part.endswith("norm") or part.startswith("attention_norm"):
            return (own,) if part == "own_norm" else (partner,)
        return {"to_partner": (partner, own), "to_own": (own, partner)}.get(part, (partner, partner))
    by_part = {
        "qkv": (3 * own, own),
        "attention/projection": (own, own),
        "expansion": (hidden, own),
        "mlp/projection": (own, hidden),
    }
    return next((shape for end, shape in by_part.items() if path.endswith(end)), (own,))


def _stem_shape(b: int, i: int, config: CrossViTConfig) -> tuple[int, ...]:
    dim, size = config.embed_dim[b], config.patch_size[b]
    if not config.multi_conv:
        return (dim, config.in_channels, size, size)
    channels = (config.in_channels, dim // 4, dim // 2, dim)
    return (channels[i + 1], channels[i], STEM_KERNEL_SIZES[i], STEM_KERNEL_SIZES[i])
