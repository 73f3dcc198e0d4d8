"""The settings of training augmentation."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_crossvit._internal.checks import (
    require_at_most,
    require_integer,
    require_number,
    require_positive,
    shown_value,
)
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keywords import KnownFieldsOnly

MAX_MAGNITUDE = 10.0  # of RandAugment; timm's _LEVEL_DENOM


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(KnownFieldsOnly):
    """Settings of training augmentation; the defaults are the paper's for ImageNet.

    Args:
        crop_scale: Smallest and largest fraction of the image's area that a random crop covers, or None for the
            evaluation's center crop. Defaults to (0.08, 1.0). Source: timm's RandomResizedCropAndInterpolation.
        crop_ratio: Smallest and largest width / height of a random crop. Defaults to (3/4, 4/3). Source: the same.
        horizontal_flip: Probability of a horizontal flip. Defaults to 0.5; use 0 where left and right matter, as in
            digits.
        rand_augment_ops: Number of RandAugment operations chosen per image, each then applied with probability 0.5.
            Defaults to 2; 0 for none. Source: Cubuk et al. 2020; timm's `rand-m9-mstd0.5-inc1`, as the authors train.
        rand_augment_magnitude: Mean magnitude of the operations, from 0 to 10. Defaults to 9.
        rand_augment_magnitude_std: Standard deviation of the magnitude. Defaults to 0.5.
        erasing: Probability of replacing a rectangle by noise. Defaults to 0.25. Source: Zhong et al. 2020, timm's mode
            "pixel".
        mixup: Alpha of the beta distribution of mixup. Defaults to 0.8; 0 for none. Source: Zhang et al. 2018.
        cutmix: Alpha of the beta distribution of CutMix. Defaults to 1.0; 0 for none. Source: Yun et al. 2019.
        mix_switch: Probability of CutMix rather than mixup where both are on. Defaults to 0.5. Source: timm's Mixup.
        label_smoothing: Fraction of the target that is spread over all classes. Defaults to 0.1. Source: paper,
            section 4.1.
        repeats: Differently augmented copies of each image in an epoch, which then has 1 / `repeats` of the images.
            Defaults to 3; 1 for none. Source: Hoffer et al. 2020; the authors' RASampler.

    Raises:
        ValueError: a value is out of range.
    """

    crop_scale: tuple[float, float] | None = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: float = 0.5
    rand_augment_ops: int = 2
    rand_augment_magnitude: float = 9.0
    rand_augment_magnitude_std: float = 0.5
    erasing: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    mix_switch: float = 0.5
    label_smoothing: float = 0.1
    repeats: int = 3

    def __post_init__(self) -> None:
        if self.crop_scale is not None:
            object.__setattr__(self, "crop_scale", _range("crop_scale", self.crop_scale))
            if self.crop_scale[1] > 1:
                raise InvalidValueError(
                    f"crop_scale {self.crop_scale[1]:g} is above 1, the whole image; use at most 1."
                )
        object.__setattr__(self, "crop_ratio", _range("crop_ratio", self.crop_ratio))
        for field in ("horizontal_flip", "erasing", "mix_switch", "label_smoothing"):
            if not 0 <= (value := require_number(field, getattr(self, field))) <= 1:
                raise InvalidValueError(f"{field} {value:g} is outside [0, 1]; use 0 to switch it off.")
        for field in ("rand_augment_magnitude", "rand_augment_magnitude_std", "mixup", "cutmix"):
            if (value := require_number(field, getattr(self, field))) < 0:
                raise InvalidValueError(f"{field} {value:g} is negative; use 0 for none, or a positive number.")
        if self.rand_augment_magnitude > MAX_MAGNITUDE:
            raise InvalidValueError(f"rand_augment_magnitude {self.rand_augment_magnitude:g} is above 10; use 0 to 10.")
        require_integer("rand_augment_ops", self.rand_augment_ops, minimum=0)
        require_integer("repeats", self.repeats, minimum=1)
        require_at_most(100, rand_augment_ops=self.rand_augment_ops, repeats=self.repeats)
        require_at_most(100, crop_ratio=self.crop_ratio[1], mixup=self.mixup, cutmix=self.cutmix)
        require_at_most(MAX_MAGNITUDE, rand_augment_magnitude_std=self.rand_augment_magnitude_std)
        if self.crop_ratio[0] < 0.01:
            raise InvalidValueError(f"crop_ratio {self.crop_ratio[0]:g} is below 0.01; use at least 0.01.")

    @classmethod
    def none(cls) -> Augmentation:
        """Returns settings without any augmentation: a center crop and targets of 0 and 1."""
        return cls(
            crop_scale=None,
            horizontal_flip=0.0,
            rand_augment_ops=0,
            erasing=0.0,
            mixup=0.0,
            cutmix=0.0,
            label_smoothing=0.0,
            repeats=1,
        )

    @property
    def mixes(self) -> bool:
        """Whether each image is mixed with another one of its batch."""
        return self.mixup > 0 or self.cutmix > 0


def _range(field: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InvalidValueError(f"{field} {shown_value(value)} is not a pair; pass the smallest and the largest value.")
    low, high = (require_positive(field, each) for each in value)
    if low > high:
        raise InvalidValueError(f"{field} {low:g} to {high:g} is reversed; pass the smaller number first.")
    return low, high
