"""Keywords of the functions that build models, for `help()`, editors and type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, TypedDict


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
    calibration: Any
    gradient_checkpointing: bool
    name: str
    dtype: Any


class BuildArguments(CrossViTArguments, total=False):
    """The keywords of `build_crossvit`, which documents them."""

    weights: str | PathLike | Mapping[str, Any] | None
    adapt: bool | None
    allow_nonfinite: bool


class ModelArguments(_ArchitectureFields, BuildArguments, total=False):
    """The keywords of the published models' functions: those of `build_crossvit` and the fields of `CrossViTConfig`."""
