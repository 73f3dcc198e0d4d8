"""Keywords of the functions that build models, for `help()`, editors and type checkers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, TypedDict

from keras_crossvit._internal.checks import suggestion
from keras_crossvit._internal.errors import InvalidTypeError


class _ArchitectureFields(TypedDict, total=False):
    img_size: Sequence[int | Sequence[int]]
    patch_size: Sequence[int]
    in_channels: int
    embed_dim: Sequence[int]
    depth: Sequence[Sequence[int]]
    num_heads: Sequence[int]
    mlp_ratio: Sequence[float]
    qkv_bias: bool
    qk_scale: float | None
    drop_rate: float
    attn_drop_rate: float
    drop_path_rate: float
    multi_conv: bool


class ConfigFields(_ArchitectureFields, total=False):
    """The fields of `CrossViTConfig`, which documents them."""

    num_classes: int


class CrossViTArguments(TypedDict, total=False):
    """The keywords of `CrossViT`, which documents them."""

    classifier_activation: Any
    pool: str
    class_names: Sequence[str] | None
    gradient_checkpointing: bool
    name: str
    dtype: Any


class BuildArguments(CrossViTArguments, total=False):
    """The keywords of `build_crossvit`, which documents them."""

    weights: str | PathLike | Mapping[str, Any] | None
    adapt_head: bool
    adapt_positions: bool
    adapt_channels: bool
    allow_nonfinite: bool


class ModelArguments(_ArchitectureFields, BuildArguments, total=False):
    """The keywords of the published models' functions: those of `build_crossvit` and the fields of `CrossViTConfig`."""


# Keywords of the reference, timm and Keras' own models that have another name here.
_KEYWORDS_ELSEWHERE = {
    "norm_layer": "every published model has LayerNorm with epsilon 1e-6; leave it out",
    "pretrained": 'use weights="imagenet"',
    "include_top": "use num_classes=0 for a model without heads",
    "input_shape": "use img_size and in_channels",
}


def require_known_keywords(keywords: Iterable[str], known: Iterable[str], caller: str) -> None:
    """Raises TypeError for an unknown keyword; the message has the nearest known one."""
    known = list(known)
    for keyword in keywords:
        if keyword in _KEYWORDS_ELSEWHERE:
            raise InvalidTypeError(f"{caller} has no keyword '{keyword}': {_KEYWORDS_ELSEWHERE[keyword]}.")
        if keyword not in known:
            raise InvalidTypeError(f"{caller} got an unexpected keyword '{keyword}'; {suggestion(keyword, known)}")
