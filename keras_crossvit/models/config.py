"""The configuration of a CrossViT and its drop-path schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_crossvit._internal import checks
from keras_crossvit._internal.errors import InvalidTypeError, InvalidValueError
from keras_crossvit._internal.keywords import KnownFieldsOnly

BRANCHES = ("small_patch", "large_patch")
# Strides of the multi-conv stem by patch size, and its kernels (paper, section 4.1; timm.models.crossvit.PatchEmbed).
STEM_STRIDES = {12: (4, 3, 1), 16: (4, 2, 2)}
STEM_KERNEL_SIZES = (7, 3, 3)


_LARGEST_SIDE = 8192  # pixels; a million tokens of 8 pixels
_LARGEST = 2**31 - 1  # of any other number: larger ones, which a file may have, would end in an overflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossViTConfig(KnownFieldsOnly):
    """Architecture of a CrossViT; the defaults are those of crossvit_9_dagger.

    Pairs have one entry for the small-patch branch and one for the large-patch branch. Lists are accepted for tuples.

    Args:
        num_classes: Number of classes; 0 for a model without heads. Defaults to 1000.
        img_size: Image size of each branch in pixels, a side or (height, width). Defaults to (240, 224).
        patch_size: Side of each branch's patches in pixels. Defaults to (12, 16).
        in_channels: Channels of the images. Defaults to 3.
        embed_dim: Channels of each branch's tokens. Defaults to (128, 256).
        depth: For each stage: blocks of the small-patch branch, blocks of the large-patch branch, rounds of
            cross-attention. 0 and 1 rounds both mean one and only differ in the drop-path schedule; with more, the
            class token attends to the patch tokens again. Defaults to three times (1, 3, 0).
        num_heads: Attention heads of each branch. Defaults to (4, 4).
        mlp_ratio: Hidden channels of each branch's MLPs divided by embed_dim. A third entry, for an MLP that the
            reference's fusion does not have, is allowed and ignored. Defaults to (3.0, 3.0, 1.0).
        qkv_bias: Whether queries, keys and values have a bias. Defaults to True.
        qk_scale: Factor on the attention scores. Defaults to None, which is (embed_dim / num_heads) ** -0.5.
        drop_rate: Dropout rate of the embedded tokens and of the outputs of attention and MLPs. Defaults to 0.0.
        attn_drop_rate: Dropout rate of the attention weights. Defaults to 0.0.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0. Defaults to 0.0.
        multi_conv: Whether a stem of three convolutions embeds the patches, as in the dagger variants. Defaults to
            True.

    Raises:
        TypeError: a field is unknown; the message has the nearest one.
        ValueError: an entry is out of range, or entries do not fit each other; the message says what would fit.

    Source: paper, table 1 and section 4.1; timm.models.crossvit.CrossVit.
    """

    num_classes: int = 1000
    img_size: tuple[int | tuple[int, int], ...] = (240, 224)
    patch_size: tuple[int, ...] = (12, 16)
    in_channels: int = 3
    embed_dim: tuple[int, ...] = (128, 256)
    depth: tuple[tuple[int, int, int], ...] = ((1, 3, 0), (1, 3, 0), (1, 3, 0))
    num_heads: tuple[int, ...] = (4, 4)
    mlp_ratio: tuple[float, ...] = (3.0, 3.0, 1.0)
    qkv_bias: bool = True
    qk_scale: float | None = None
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    multi_conv: bool = True

    def __post_init__(self) -> None:
        normalized = {
            "num_classes": checks.require_integer("num_classes", self.num_classes, minimum=0, maximum=_LARGEST),
            "img_size": tuple(map(_image_size, _pair("img_size", self.img_size))),
            "patch_size": _integers("patch_size", _pair("patch_size", self.patch_size)),
            "in_channels": checks.require_integer("in_channels", self.in_channels, minimum=1, maximum=_LARGEST),
            "embed_dim": _integers("embed_dim", _pair("embed_dim", self.embed_dim)),
            "depth": _depth(self.depth),
            "num_heads": _integers("num_heads", _pair("num_heads", self.num_heads)),
            "mlp_ratio": _mlp_ratio(self.mlp_ratio),
            "qkv_bias": checks.require_boolean("qkv_bias", self.qkv_bias),
            "qk_scale": None if self.qk_scale is None else checks.require_positive("qk_scale", self.qk_scale),
            "drop_rate": checks.require_rate("drop_rate", self.drop_rate),
            "attn_drop_rate": checks.require_rate("attn_drop_rate", self.attn_drop_rate),
            "drop_path_rate": checks.require_rate("drop_path_rate", self.drop_path_rate),
            "multi_conv": checks.require_boolean("multi_conv", self.multi_conv),
        }
        for field, value in normalized.items():
            object.__setattr__(self, field, value)
        for b in range(len(BRANCHES)):
            self._check_branch(b)

    def _check_branch(self, b: int) -> None:
        patch_size, embed_dim, ratio = self.patch_size[b], self.embed_dim[b], self.mlp_ratio[b]
        for side in self.image_sizes[b]:
            checks.require_patches_tile("img_size", side, patch_size)
        checks.require_heads_divide("embed_dim", embed_dim, self.num_heads[b])
        if int(embed_dim * ratio) < 1:
            raise InvalidValueError(
                f"mlp_ratio {ratio:g} leaves embed_dim {embed_dim} without a hidden channel; use a larger one."
            )
        if self.multi_conv and patch_size not in STEM_STRIDES:
            known = " or ".join(map(str, STEM_STRIDES))
            raise InvalidValueError(
                f"patch_size {patch_size} has no multi_conv stem; use {known}, or multi_conv=False for one "
                "convolution per patch."
            )
        if self.multi_conv and embed_dim % 4:
            nearest = " or ".join(map(str, checks.neighbouring_multiples(embed_dim, 4)))
            raise InvalidValueError(
                f"embed_dim {embed_dim} is not divisible by 4, which the multi_conv stem needs; use {nearest}, or "
                "multi_conv=False."
            )

    @property
    def image_sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each branch's image in pixels."""
        return tuple((size, size) if isinstance(size, int) else size for size in self.img_size)

    @property
    def patch_grids(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each branch's patches."""
        sizes = zip(self.image_sizes, self.patch_size, strict=True)
        return tuple((height // patch, width // patch) for (height, width), patch in sizes)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values, with lists for tuples."""
        return {field: _as_lists(value) for field, value in dataclasses.asdict(self).items()}


def config_of(model: Any) -> CrossViTConfig:
    """Returns the configuration of a CrossViT.

    Raises:
        TypeError: the model is not a `CrossViT`.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, CrossViTConfig):
        raise InvalidTypeError(
            f"Expected a CrossViT, got {type(model).__name__}. Pass the original model, not a clone or a wrapper."
        )
    return config


def drop_path_rates(config: CrossViTConfig) -> tuple[tuple[float, ...], ...]:
    """Returns the drop-path rates of each stage: block i of both branches has the i-th, the fusions have the last.

    The rates rise linearly from 0 to `config.drop_path_rate`. A stage has as many rates as its deeper branch has
    blocks, plus its `depth[s][2]`. (The reference assumes that the second branch is the deeper one and indexes out of
    range otherwise.)
    """
    lengths = [max(blocks[:2]) + blocks[2] for blocks in config.depth]
    rates = np.linspace(0.0, config.drop_path_rate, sum(lengths)).tolist()
    starts = np.cumsum([0, *lengths[:-1]])
    return tuple(tuple(rates[start : start + length]) for start, length in zip(starts, lengths, strict=True))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, (str, bytes))


def _pair(field: str, value: Any) -> tuple:
    if not _is_sequence(value):
        raise InvalidValueError(
            f"{field} {value!r} is not a pair; give one entry per branch, small-patch branch first."
        )
    if len(value) != len(BRANCHES):
        raise InvalidValueError(
            f"{field} {_as_lists(value)} has {len(value)} entries, but CrossViT has two branches; give one entry for "
            "the small-patch branch and one for the large-patch branch."
        )
    return tuple(value)


def _image_size(size: Any) -> int | tuple[int, int]:
    if not _is_sequence(size):
        return _side(size)
    if len(size) != 2:
        raise InvalidValueError(f"img_size {_as_lists(size)} of a branch is neither a side nor (height, width).")
    height, width = map(_side, size)
    return height if height == width else (height, width)


def _side(size: Any) -> int:
    side = checks.require_integer("img_size", size, minimum=1)
    checks.require_at_most(_LARGEST_SIDE, img_size=side)
    return side


def _integers(field: str, values: Iterable[Any]) -> tuple[int, ...]:
    return tuple(checks.require_integer(field, value, minimum=1, maximum=_LARGEST) for value in values)


def _mlp_ratio(value: Any) -> tuple[float, ...]:
    has_third = _is_sequence(value) and len(value) == 3
    ratios = _pair("mlp_ratio", value[:2] if has_third else value)
    ratios = tuple(checks.require_positive("mlp_ratio", ratio) for ratio in ratios)
    checks.require_at_most(_LARGEST, mlp_ratio=max(ratios))
    return (*ratios, checks.require_number("mlp_ratio", value[2])) if has_third else ratios


def _depth(value: Any) -> tuple[tuple[int, ...], ...]:
    rule = "give three integers per stage: blocks of each branch (1 or more), rounds of cross-attention (0 or more)"
    if not _is_sequence(value) or len(value) == 0:
        raise InvalidValueError(f"depth {value!r} has no stage; {rule}.")
    for stage in value:
        if not _is_sequence(stage) or len(stage) != 3:
            raise InvalidValueError(f"depth {stage!r} of a stage is not a triple; {rule}.")
    return tuple(
        tuple(
            checks.require_integer("depth", n, minimum=least, maximum=_LARGEST)
            for n, least in zip(stage, (1, 1, 0), strict=True)
        )
        for stage in value
    )


def _as_lists(value: Any) -> Any:
    return [_as_lists(each) for each in value] if isinstance(value, (tuple, list, np.ndarray)) else value
