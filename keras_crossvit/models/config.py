"""What describes a CrossViT: its configuration, and the drop-path schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_crossvit._internal import checks
from keras_crossvit._internal.errors import InvalidTypeError, InvalidValueError

BRANCHES = ("small_patch", "large_patch")
# Strides of the multi-conv stem by patch size (paper, section 4.1; timm.models.crossvit.PatchEmbed).
STEM_STRIDES = {12: (4, 3, 1), 16: (4, 2, 2)}
# Keywords of the authors', timm's and Keras' own models, none of which is spelt like what does the same here.
_KEYWORDS_ELSEWHERE = {
    "norm_layer": "every official model has LayerNorm with epsilon 1e-6; leave it out",
    "pretrained": 'the functions of the models take weights="imagenet"',
    "include_top": "num_classes=0 leaves the heads out",
    "input_shape": "img_size and in_channels say the shapes of both images",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossViTConfig:
    """Architecture of a CrossViT of two branches; the defaults are those of crossvit_9_dagger.

    Entries of pairs belong to the small-patch branch and the large-patch branch, in this order. Lists are taken where
    tuples are.

    Args:
        num_classes: Classes to tell apart; 0 leaves the heads out. Defaults to 1000.
        img_size: Side of each branch's image in pixels, or (height, width) of each. Defaults to (240, 224).
        patch_size: Side of each branch's patches in pixels. Defaults to (12, 16).
        in_channels: Channels of the images. Defaults to 3.
        embed_dim: Channels of each branch's tokens. Defaults to (128, 256).
        depth: For each stage: blocks of the small-patch branch, blocks of the large-patch branch, and rounds of
            cross-attention. 0 and 1 rounds both mean one and differ in the drop-path schedule alone; with more, the
            class token queries the patch tokens again. Defaults to three times (1, 3, 0).
        num_heads: Attention heads of each branch. Defaults to (4, 4).
        mlp_ratio: Hidden channels of each branch's MLPs over its embed_dim; a third entry, for the MLP that the
            authors' fusion does not have, is allowed and without effect. Defaults to (3.0, 3.0, 1.0).
        qkv_bias: Whether queries, keys and values have a bias. Defaults to True.
        qk_scale: Factor on the attention scores. Defaults to None, which is (embed_dim / num_heads) ** -0.5.
        drop_rate: Dropout on embedded tokens and on the output of attention and MLPs. Defaults to 0.0.
        attn_drop_rate: Dropout on the attention weights. Defaults to 0.0.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0. Defaults to 0.0.
        multi_conv: Whether a stem of three convolutions embeds the patches, as in the dagger variants. Defaults to
            True.

    Raises:
        TypeError: a field is unknown; the message names the nearest.
        ValueError: an entry is out of range, or entries do not fit each other; the message says what would.

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

    def __new__(cls, **fields: Any) -> CrossViTConfig:
        """Refuses unknown fields before the generated constructor does, and names the nearest one."""
        require_known_keywords(fields, [field.name for field in dataclasses.fields(cls)], f"{cls.__name__}()")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        normalised = {
            "num_classes": checks.require_integer("num_classes", self.num_classes, minimum=0),
            "img_size": tuple(map(_image_size, _branches("img_size", self.img_size))),
            "patch_size": _integers("patch_size", _branches("patch_size", self.patch_size)),
            "in_channels": checks.require_integer("in_channels", self.in_channels, minimum=1),
            "embed_dim": _integers("embed_dim", _branches("embed_dim", self.embed_dim)),
            "depth": _depth(self.depth),
            "num_heads": _integers("num_heads", _branches("num_heads", self.num_heads)),
            "mlp_ratio": _mlp_ratio(self.mlp_ratio),
            "qkv_bias": checks.require_boolean("qkv_bias", self.qkv_bias),
            "qk_scale": None if self.qk_scale is None else checks.require_positive("qk_scale", self.qk_scale),
            "drop_rate": checks.require_rate("drop_rate", self.drop_rate),
            "attn_drop_rate": checks.require_rate("attn_drop_rate", self.attn_drop_rate),
            "drop_path_rate": checks.require_rate("drop_path_rate", self.drop_path_rate),
            "multi_conv": checks.require_boolean("multi_conv", self.multi_conv),
        }
        for field, value in normalised.items():
            object.__setattr__(self, field, value)
        self._check_that_entries_fit()

    def _check_that_entries_fit(self) -> None:
        for size, patch_size in zip(self.image_sizes, self.patch_size, strict=True):
            for side in size:
                checks.require_patches_tile("img_size", side, patch_size)
        for embed_dim, num_heads, ratio in zip(self.embed_dim, self.num_heads, self.mlp_ratio, strict=False):
            checks.require_heads_divide("embed_dim", embed_dim, num_heads)
            if int(embed_dim * ratio) < 1:
                raise InvalidValueError(
                    f"mlp_ratio {ratio:g} leaves embed_dim {embed_dim} no hidden channel; use a larger one."
                )
        for patch_size, embed_dim in zip(self.patch_size, self.embed_dim, strict=True):
            if self.multi_conv and patch_size not in STEM_STRIDES:
                known = " or ".join(map(str, STEM_STRIDES))
                raise InvalidValueError(
                    f"patch_size {patch_size} has no multi_conv stem; use {known}, or multi_conv=False for one "
                    "convolution per patch."
                )
            if self.multi_conv and embed_dim % 4:
                raise InvalidValueError(
                    f"embed_dim {embed_dim} is not divisible by 4, which the multi_conv stem needs; "
                    f"use {' or '.join(map(str, checks.neighbouring_multiples(embed_dim, 4)))}, or multi_conv=False."
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
        """The fields as plain JSON values, lists in place of tuples."""
        return {field: _as_lists(value) for field, value in dataclasses.asdict(self).items()}


def config_of(model: Any) -> CrossViTConfig:
    """Architecture of a CrossViT.

    Raises:
        TypeError: the model is another.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, CrossViTConfig):
        raise InvalidTypeError(
            f"A {type(model).__name__} is no CrossViT; give the CrossViT itself, not its clone or a model made of it."
        )
    return config


def drop_path_rates(config: CrossViTConfig) -> tuple[tuple[float, ...], ...]:
    """Drop-path rates of each stage: block i of either branch takes the i-th, both fusions take the last.

    The rates rise linearly from 0 to `config.drop_path_rate` over the stages' slices; a slice is as long as the stage's
    deeper branch plus its `depth[s][2]`. (The authors' code takes the second branch for the deeper one and indexes out
    of range where it is not.)
    """
    lengths = [max(blocks[:2]) + blocks[2] for blocks in config.depth]
    rates = np.linspace(0.0, config.drop_path_rate, sum(lengths)).tolist()
    starts = np.cumsum([0, *lengths[:-1]])
    return tuple(tuple(rates[start : start + length]) for start, length in zip(starts, lengths, strict=True))


def require_known_keywords(keywords: Iterable[str], known: Iterable[str], caller: str) -> None:
    """Raises TypeError for a keyword that is not known, naming the nearest one that is."""
    known = list(known)
    for keyword in keywords:
        if keyword in _KEYWORDS_ELSEWHERE:
            raise InvalidTypeError(f"{caller} has no keyword '{keyword}': {_KEYWORDS_ELSEWHERE[keyword]}.")
        if keyword not in known:
            raise InvalidTypeError(
                f"{caller} got an unexpected keyword '{keyword}'; {checks.suggestion(keyword, known)}"
            )


def _branches(field: str, value: Any) -> tuple:
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray)):
        raise InvalidValueError(f"{field} {value!r} is no pair; give one entry per branch, small-patch branch first.")
    if len(value) != len(BRANCHES):
        raise InvalidValueError(
            f"{field} {_as_lists(value)} has {len(value)} entries; CrossViT has two branches: give one entry for the "
            "small-patch branch and one for the large-patch branch."
        )
    return tuple(value)


def _image_size(size: Any) -> int | tuple[int, int]:
    if isinstance(size, (Sequence, np.ndarray)) and not isinstance(size, (str, bytes)):
        if len(size) != 2:
            raise InvalidValueError(
                f"img_size {_as_lists(size)} of a branch is neither a side nor (height, width); use either."
            )
        height, width = _integers("img_size", size)
        return height if height == width else (height, width)
    return checks.require_integer("img_size", size, minimum=1)


def _integers(field: str, values: Iterable[Any]) -> tuple[int, ...]:
    return tuple(checks.require_integer(field, value, minimum=1) for value in values)


def _mlp_ratio(value: Any) -> tuple[float, ...]:
    has_third = isinstance(value, (Sequence, np.ndarray)) and len(value) == 3
    ratios = _branches("mlp_ratio", value[:2] if has_third else value)
    ratios = tuple(checks.require_positive("mlp_ratio", ratio) for ratio in ratios)
    return (*ratios, checks.require_number("mlp_ratio", value[2])) if has_third else ratios


def _depth(value: Any) -> tuple[tuple[int, int, int], ...]:
    rule = (
        "give three whole numbers per stage: blocks of each branch (1 or more), rounds of cross-attention (0 or more)"
    )
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray)) or len(value) == 0:
        raise InvalidValueError(f"depth {value!r} has no stage; {rule}.")
    for stage in value:
        if not isinstance(stage, (Sequence, np.ndarray)) or len(stage) != 3:
            raise InvalidValueError(f"depth {stage!r} of a stage is no triple; {rule}.")
    return tuple(
        tuple(
            checks.require_integer("depth", blocks, minimum=floor)
            for blocks, floor in zip(stage, (1, 1, 0), strict=True)
        )
        for stage in value
    )


def _as_lists(value: Any) -> Any:
    return [_as_lists(each) for each in value] if isinstance(value, (tuple, list, np.ndarray)) else value
