"""The authors' eleven models: configurations and the figures that the paper and timm report for them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from keras_crossvit._internal.checks import nearest
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.models.config import CrossViTConfig, require_known_keywords


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """A published model.

    Args:
        timm_name: Its name in timm and, with the suffix ".in1k", on the Hugging Face Hub. It ends in the side of the
            small-patch branch's image; the authors' name ends in that of the other one.
        config: Its architecture.
        parameters: Number of trainable parameters.
        gmacs: Billions of multiply-accumulate operations per picture, as timm's tables count them.
        paper_top1: ImageNet-1k top-1 accuracy of the paper in percent.
        timm_top1: The same as timm's tables measured it.
        timm_top5: Top-5 accuracy in percent, from timm's tables.
    """

    timm_name: str
    config: CrossViTConfig
    parameters: int
    gmacs: float
    paper_top1: float
    timm_top1: float
    timm_top5: float

    @property
    def authors_name(self) -> str:
        """Its name in the authors' repository."""
        small_patch, large_patch = self.config.img_size
        return f"{self.timm_name.removesuffix(str(small_patch))}{large_patch}"


def _config(embed_dim: int, large_patch_blocks: int, heads: int, mlp_ratio: int, **fields: Any) -> CrossViTConfig:
    return CrossViTConfig(
        embed_dim=(embed_dim, 2 * embed_dim),
        depth=((1, large_patch_blocks, 0),) * 3,
        num_heads=(heads, heads),
        mlp_ratio=(mlp_ratio, mlp_ratio, 1),
        **{"multi_conv": False, **fields},
    )


def _variant(timm_name: str, config: CrossViTConfig, parameters: int, gmacs: float, *accuracies: float) -> Variant:
    paper_top1, timm_top1, timm_top5 = accuracies
    return Variant(
        timm_name=timm_name,
        config=config,
        parameters=parameters,
        gmacs=gmacs,
        paper_top1=paper_top1,
        timm_top1=timm_top1,
        timm_top5=timm_top5,
    )


_AT_408 = {"multi_conv": True, "img_size": (408, 384)}
# Paper, tables 1, 2 and 4; accuracies and operations of timm from its results tables of ImageNet-1k.
VARIANTS = {
    "crossvit_tiny": _variant("crossvit_tiny_240", _config(96, 4, 3, 4), 7_014_800, 1.57, 73.4, 73.352, 91.906),
    "crossvit_small": _variant("crossvit_small_240", _config(192, 4, 6, 4), 26_856_272, 5.63, 81.0, 81.036, 95.466),
    "crossvit_base": _variant("crossvit_base_240", _config(384, 4, 12, 4), 105_025_232, 21.22, 82.2, 82.212, 95.826),
    "crossvit_9": _variant("crossvit_9_240", _config(128, 3, 4, 3), 8_553_296, 1.85, 73.9, 73.994, 91.976),
    "crossvit_15": _variant("crossvit_15_240", _config(192, 5, 6, 3), 27_528_464, 5.81, 81.5, 81.522, 95.694),
    "crossvit_18": _variant("crossvit_18_240", _config(224, 6, 7, 3), 43_271_408, 9.05, 82.5, 82.390, 96.064),
    "crossvit_9_dagger": _variant(
        "crossvit_9_dagger_240", _config(128, 3, 4, 3, multi_conv=True), 8_776_592, 1.99, 77.1, 76.990, 93.602
    ),
    "crossvit_15_dagger": _variant(
        "crossvit_15_dagger_240", _config(192, 5, 6, 3, multi_conv=True), 28_209_008, 6.13, 82.3, 82.302, 95.960
    ),
    "crossvit_18_dagger": _variant(
        "crossvit_18_dagger_240", _config(224, 6, 7, 3, multi_conv=True), 44_266_976, 9.50, 82.8, 82.494, 96.070
    ),
    "crossvit_15_dagger_408": _variant(
        "crossvit_15_dagger_408", _config(192, 5, 6, 3, **_AT_408), 28_500_080, 21.45, 83.5, 83.842, 96.786
    ),
    "crossvit_18_dagger_408": _variant(
        "crossvit_18_dagger_408", _config(224, 6, 7, 3, **_AT_408), 44_606_560, 32.47, 83.9, 84.198, 96.834
    ),
}


def list_models() -> list[str]:
    """Names of the published models, in the order of the paper's tables."""
    return list(VARIANTS)


_ALIASES = {
    alias: name for name, variant in VARIANTS.items() for alias in (name, variant.timm_name, variant.authors_name)
}
_HUB_PARTS = re.compile(r"^(https://huggingface\.co/|hf[-_]hub:)?timm/|\.in1k$")


def variant_name(name: str) -> str:
    """The one name of a published model, given that, timm's ("timm/crossvit_9_dagger_240.in1k") or the authors'.

    Args:
        name: The name in any case; timm's with or without what the Hugging Face Hub adds.

    Returns:
        One of `list_models()`.

    Raises:
        ValueError: there is no such model; the message has the nearest of the same family and image size, or the list.
    """
    plain = _plain(name)
    if plain in _ALIASES:
        return _ALIASES[plain]
    found = nearest(plain, _similar(plain))
    remedy = f"did you mean '{_ALIASES[found]}'?" if found else f"known are {', '.join(VARIANTS)}."
    raise InvalidValueError(f"There is no model '{name}'; {remedy}")


def _plain(name: str) -> str:
    return _HUB_PARTS.sub("", str(name).lower())


def _similar(name: str) -> Mapping[str, str]:
    """The aliases with the same numbers, which are family and image size; all if none of its numbers is known."""
    numbers = {alias: set(re.findall(r"\d+", alias)) for alias in _ALIASES}
    wanted = set(re.findall(r"\d+", name.partition(".")[0]))
    if wanted and not wanted & set().union(*numbers.values()):
        return _ALIASES
    return {alias: model for alias, model in _ALIASES.items() if numbers[alias] == wanted}


def is_variant(name: str) -> bool:
    """Whether there is a published model of a name that `variant_name` takes."""
    return _plain(name) in _ALIASES


def get_variant(name: str) -> Variant:
    """The published model of a name that `variant_name` takes.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    return VARIANTS[variant_name(name)]


def variant_config(name: str, **overrides: Any) -> CrossViTConfig:
    """Configuration of a published model, with fields of one's own.

    Args:
        name: One of `list_models()`, or timm's or the authors' name of it.
        **overrides: Fields of `CrossViTConfig`.

    Returns:
        The configuration.

    Raises:
        ValueError: there is no such model, or the fields do not fit each other.
        TypeError: an override is no field; the message names the nearest.
    """
    config = get_variant(name).config
    require_known_keywords(overrides, [field.name for field in dataclasses.fields(config)], "variant_config()")
    return dataclasses.replace(config, **overrides)
