"""The eleven published models: their configurations, and the results that the paper and timm report."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, Unpack

from keras_crossvit._internal.checks import nearest
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keywords import known_keywords_only, require_known_keywords
from keras_crossvit.models.arguments import ConfigFields
from keras_crossvit.models.config import CrossViTConfig


@dataclasses.dataclass(frozen=True)
class Variant:
    """A published model.

    Args:
        timm_name: Its name in timm and, with the suffix ".in1k", on the Hugging Face Hub. The number at its end is the
            small-patch branch's image size; the authors' name ends with the other branch's.
        config: Its architecture.
        parameters: Number of trainable parameters.
        gmacs: Billions of multiply-accumulate operations per image, as timm counts them.
        paper_top1: ImageNet-1k top-1 accuracy in the paper, in percent.
        timm_top1: Top-1 accuracy measured by timm.
        timm_top5: Top-5 accuracy measured by timm.
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


def _config(embed_dim: int, large_patch_blocks: int, num_heads: int, mlp_ratio: int, **fields: Any) -> CrossViTConfig:
    return CrossViTConfig(
        embed_dim=(embed_dim, 2 * embed_dim),
        depth=((1, large_patch_blocks, 0),) * 3,
        num_heads=(num_heads, num_heads),
        mlp_ratio=(mlp_ratio, mlp_ratio, 1),
        **{"multi_conv": False, **fields},
    )


_TINY, _SMALL, _BASE = _config(96, 4, 3, 4), _config(192, 4, 6, 4), _config(384, 4, 12, 4)
_9, _15, _18 = _config(128, 3, 4, 3), _config(192, 5, 6, 3), _config(224, 6, 7, 3)
_9_DAGGER, _15_DAGGER, _18_DAGGER = (dataclasses.replace(each, multi_conv=True) for each in (_9, _15, _18))
_15_408, _18_408 = (dataclasses.replace(each, img_size=(408, 384)) for each in (_15_DAGGER, _18_DAGGER))
# Paper, tables 1, 2 and 4; accuracies and operations of timm from its ImageNet-1k results tables.
VARIANTS = {
    "crossvit_tiny": Variant("crossvit_tiny_240", _TINY, 7_014_800, 1.57, 73.4, 73.352, 91.906),
    "crossvit_small": Variant("crossvit_small_240", _SMALL, 26_856_272, 5.63, 81.0, 81.036, 95.466),
    "crossvit_base": Variant("crossvit_base_240", _BASE, 105_025_232, 21.22, 82.2, 82.212, 95.826),
    "crossvit_9": Variant("crossvit_9_240", _9, 8_553_296, 1.85, 73.9, 73.994, 91.976),
    "crossvit_15": Variant("crossvit_15_240", _15, 27_528_464, 5.81, 81.5, 81.522, 95.694),
    "crossvit_18": Variant("crossvit_18_240", _18, 43_271_408, 9.05, 82.5, 82.390, 96.064),
    "crossvit_9_dagger": Variant("crossvit_9_dagger_240", _9_DAGGER, 8_776_592, 1.99, 77.1, 76.990, 93.602),
    "crossvit_15_dagger": Variant("crossvit_15_dagger_240", _15_DAGGER, 28_209_008, 6.13, 82.3, 82.302, 95.960),
    "crossvit_18_dagger": Variant("crossvit_18_dagger_240", _18_DAGGER, 44_266_976, 9.50, 82.8, 82.494, 96.070),
    "crossvit_15_dagger_408": Variant("crossvit_15_dagger_408", _15_408, 28_500_080, 21.45, 83.5, 83.842, 96.786),
    "crossvit_18_dagger_408": Variant("crossvit_18_dagger_408", _18_408, 44_606_560, 32.47, 83.9, 84.198, 96.834),
}
_ALIASES = {
    alias: name for name, variant in VARIANTS.items() for alias in (name, variant.timm_name, variant.authors_name)
}
_HUB_PARTS = re.compile(r"^(https://huggingface\.co/|hf[-_]hub:)?timm/|\.in1k$")


@known_keywords_only
def list_models() -> list[str]:
    """Returns the names of the published models, in the order of the paper's tables."""
    return list(VARIANTS)


def variant_config(name: str, **overrides: Unpack[ConfigFields]) -> CrossViTConfig:
    """Returns the configuration of a published model, with overrides.

    Args:
        name: One of `list_models()`, or the model's name in timm or in the authors' repository.
        **overrides: Fields of `CrossViTConfig`.

    Raises:
        ValueError: there is no such model, or the fields do not fit each other.
        TypeError: an override is not a field; the message has the nearest one.
    """
    config = get_variant(name).config
    require_known_keywords(overrides, ConfigFields.__annotations__, "variant_config()")
    fields: dict[str, Any] = {**overrides}
    return dataclasses.replace(config, **fields)


def get_variant(name: str) -> Variant:
    """Returns a published model, given a name that `variant_name` takes."""
    return VARIANTS[variant_name(name)]


def variant_name(name: str) -> str:
    """Returns the name of a published model in `list_models()`.

    Args:
        name: That name, timm's ("crossvit_9_dagger_240", "timm/crossvit_9_dagger_240.in1k") or the authors'
            ("crossvit_9_dagger_224"), in any case.

    Raises:
        ValueError: there is no such model; the message has the nearest one of the same family and image size, or all.
    """
    plain = _plain(name)
    if plain in _ALIASES:
        return _ALIASES[plain]
    found = nearest(plain, _candidates(plain))
    remedy = f"did you mean '{_ALIASES[found]}'?" if found else f"known are {', '.join(VARIANTS)}."
    raise InvalidValueError(f"There is no model '{name}'; {remedy}")


def is_variant(name: str) -> bool:
    """Returns whether `variant_name` knows a name."""
    return _plain(name) in _ALIASES


def _plain(name: str) -> str:
    return _HUB_PARTS.sub("", str(name).lower())


def _candidates(name: str) -> Iterable[str]:
    """Returns the aliases with the same numbers (family and image size), or all if none of the numbers is known."""
    numbers = {alias: set(re.findall(r"\d+", alias)) for alias in _ALIASES}
    wanted = set(re.findall(r"\d+", name.partition(".")[0]))
    if wanted and not wanted & set().union(*numbers.values()):
        return _ALIASES
    return [alias for alias in _ALIASES if numbers[alias] == wanted]
