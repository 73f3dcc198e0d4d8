"""RandAugment with timm's operations and magnitudes (the "increasing" set), in Pillow as in timm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from keras_crossvit.pipeline.augmentation import MAX_MAGNITUDE, Augmentation
from keras_crossvit.preprocessing.transforms import IMAGENET_MEAN

FILL = tuple(min(255, round(255 * mean)) for mean in IMAGENET_MEAN)  # beyond the borders of a moved image
DRAWS_PER_OPERATION = 3
_PROBABILITY = 0.5  # that a chosen operation is applied
Operation = Callable[[Image.Image, float, int], Image.Image]


def rand_augment(
    image: Image.Image, augmentation: Augmentation, draws: np.ndarray, strengths: np.ndarray
) -> Image.Image:
    """Applies operations chosen with replacement to an RGB image, each with probability 0.5.

    Each operation takes three uniform `draws` (whether, which, sign) and a standard normal `strength`. Source: timm's
    rand_augment_transform for "rand-m9-mstd0.5-inc1".
    """
    operations = list(OPERATIONS.values())
    magnitudes = augmentation.rand_augment_magnitude + (
        augmentation.rand_augment_magnitude_std * strengths.astype("float64")
    )
    levels = np.clip(magnitudes, 0, MAX_MAGNITUDE) / MAX_MAGNITUDE
    for (whether, which, sign), level in zip(draws.tolist(), levels.tolist(), strict=True):
        if whether <= _PROBABILITY:
            image = operations[int(which * len(operations))](image, level, -1 if sign > 0.5 else 1)
    return image


def _enhance(enhancer: type) -> Operation:
    return lambda image, level, sign: enhancer(image).enhance(max(0.1, 1 + sign * level * 0.9))


def _affine(coefficients: Callable[[Image.Image, float], tuple], limit: float) -> Operation:
    return lambda image, level, sign: image.transform(
        image.size,
        Image.Transform.AFFINE,
        coefficients(image, sign * level * limit),
        Image.Resampling.BICUBIC,
        fillcolor=FILL,
    )


def _rotate(image: Image.Image, level: float, sign: int) -> Image.Image:
    return image.rotate(sign * level * 30, Image.Resampling.BICUBIC, fillcolor=FILL)


def _posterize(image: Image.Image, level: float, sign: int) -> Image.Image:
    # At level 1 timm keeps 0 bits: a black image, or an error in newer versions of Pillow.
    return ImageOps.posterize(image, max(4 - int(level * 4), 1))


def _solarize_add(image: Image.Image, level: float, sign: int) -> Image.Image:
    addition = int(level * 110)
    return image.point([value + addition if value < 128 else value for value in range(256)] * 3)


# With timm's names and in its order. Each takes an image, a level in [0, 1] and a sign of -1 or 1.
OPERATIONS: dict[str, Operation] = {
    "AutoContrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "Equalize": lambda image, level, sign: ImageOps.equalize(image),
    "Invert": lambda image, level, sign: ImageOps.invert(image),
    "Rotate": _rotate,
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": lambda image, level, sign: ImageOps.solarize(image, 256 - int(level * 256)),
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _enhance(ImageEnhance.Color),
    "ContrastIncreasing": _enhance(ImageEnhance.Contrast),
    "BrightnessIncreasing": _enhance(ImageEnhance.Brightness),
    "SharpnessIncreasing": _enhance(ImageEnhance.Sharpness),
    "ShearX": _affine(lambda image, slope: (1, slope, 0, 0, 1, 0), 0.3),
    "ShearY": _affine(lambda image, slope: (1, 0, 0, slope, 1, 0), 0.3),
    "TranslateXRel": _affine(lambda image, fraction: (1, 0, fraction * image.width, 0, 1, 0), 0.45),
    "TranslateYRel": _affine(lambda image, fraction: (1, 0, 0, 0, 1, fraction * image.height), 0.45),
}
