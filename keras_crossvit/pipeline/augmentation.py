"""What training does to a picture before the model sees it, as numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_crossvit._internal.checks import require_integer, require_number, require_positive
from keras_crossvit._internal.errors import InvalidValueError

MAGNITUDE_LIMIT = 10.0  # timm's _LEVEL_DENOM: the scale on which magnitudes are given


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Settings of the training pictures; the defaults are the paper's for ImageNet.

    Args:
        crop_scale: Least and largest share of the picture's area that a random crop takes, or None for evaluation's
            crop of the middle. Defaults to (0.08, 1.0). Source: timm's RandomResizedCropAndInterpolation.
        crop_ratio: Least and largest width / height of a random crop. Defaults to (3/4, 4/3). Source: the same.
        horizontal_flip: Probability of a mirror image. Defaults to 0.5; 0 for pictures whose sides mean something,
            such as digits.
        rand_augment_ops: Operations drawn per picture, each then applied with probability 0.5. Defaults to 2; 0 for
            none. Source: Cubuk et al. 2020; timm's `rand-m9-mstd0.5-inc1`, which the authors train with.
        rand_augment_magnitude: Mean strength on a scale of 0 to 10. Defaults to 9.
        rand_augment_magnitude_std: Deviation of the strength among pictures. Defaults to 0.5.
        erasing: Probability that a rectangle is replaced by noise. Defaults to 0.25. Source: Zhong et al. 2020, in
            timm's mode "pixel".
        mixup: Alpha of the beta distribution from which the share of two blended pictures is drawn. Defaults to 0.8;
            0 for none. Source: Zhang et al. 2018.
        cutmix: The same for the area that one picture takes of another. Defaults to 1.0; 0 for none. Source: Yun et
            al. 2019.
        mix_switch: Probability of cutmix where both are on. Defaults to 0.5. Source: timm's Mixup.
        label_smoothing: Share of the target that is spread over all classes. Defaults to 0.1. Source: paper,
            section 4.1.
        repeats: Differently augmented copies of each picture in an epoch, which then shows 1 / `repeats` of the
            pictures. Defaults to 3; 1 for none. Source: Hoffer et al. 2020; the authors' RASampler.

    Raises:
        ValueError: a value is out of range; the message says what would do.
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
                    f"crop_scale {self.crop_scale[1]:g} is more than the whole picture; use at most 1."
                )
        object.__setattr__(self, "crop_ratio", _range("crop_ratio", self.crop_ratio))
        for field in ("horizontal_flip", "erasing", "mix_switch", "label_smoothing"):
            _require_fraction(field, getattr(self, field))
        for field in ("rand_augment_magnitude", "rand_augment_magnitude_std", "mixup", "cutmix"):
            if require_number(field, getattr(self, field)) < 0:
                raise InvalidValueError(
                    f"{field} {getattr(self, field):g} is negative; use 0 for none, or a number above."
                )
        if self.rand_augment_magnitude > MAGNITUDE_LIMIT:
            raise InvalidValueError(f"rand_augment_magnitude {self.rand_augment_magnitude:g} is above 10; use 0 to 10.")
        require_integer("rand_augment_ops", self.rand_augment_ops, minimum=0)
        require_integer("repeats", self.repeats, minimum=1)

    @classmethod
    def none(cls) -> Augmentation:
        """Nothing random at all: evaluation's crop of the middle and plain targets."""
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
        """Whether a picture is mixed with another of its batch."""
        return self.mixup > 0 or self.cutmix > 0


def _range(field: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InvalidValueError(f"{field} {value!r} is no pair; give the least and the largest value.")
    low, high = (require_positive(field, each) for each in value)
    if low > high:
        raise InvalidValueError(f"{field} {low:g} to {high:g} runs backwards; give the smaller number first.")
    return low, high


def _require_fraction(field: str, value: Any) -> None:
    if not 0 <= require_number(field, value) <= 1:
        raise InvalidValueError(f"{field} {value:g} is outside 0 to 1; use 0 to switch it off.")
