"""RandAugment with timm's operations and strengths, the "increasing" set."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_crossvit.pipeline import colour, geometry
from keras_crossvit.pipeline.augmentation import MAGNITUDE_LIMIT, Augmentation

_PROBABILITY = 0.5  # with which a drawn operation is applied
DRAWS_PER_OPERATION = 3
Operation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def _enhance(operation: Callable) -> Operation:
    return lambda picture, level, sign: operation(picture, tf.maximum(0.1, 1 + sign * level * 0.9))


def _move(operation: Callable, furthest: float) -> Operation:
    return lambda picture, level, sign: operation(picture, sign * level * furthest)


def _bits(level: tf.Tensor) -> tf.Tensor:
    # timm keeps no bit at all at level 1, which leaves a black picture (or, in newer releases of Pillow, an error).
    return tf.maximum(4 - tf.cast(level * 4, tf.int32), 1)


# By timm's names and in its order. Each takes a picture, a level in [0, 1] and a sign of -1 or 1.
OPERATIONS: dict[str, Operation] = {
    "AutoContrast": lambda picture, level, sign: colour.auto_contrast(picture),
    "Equalize": lambda picture, level, sign: colour.equalize(picture),
    "Invert": lambda picture, level, sign: colour.invert(picture),
    "Rotate": _move(geometry.rotate, 30.0),
    "PosterizeIncreasing": lambda picture, level, sign: colour.posterize(picture, _bits(level)),
    "SolarizeIncreasing": lambda picture, level, sign: colour.solarize(picture, 256 - tf.cast(level * 256, tf.int32)),
    "SolarizeAdd": lambda picture, level, sign: colour.solarize_add(picture, tf.cast(level * 110, tf.int32)),
    "ColorIncreasing": _enhance(colour.saturate),
    "ContrastIncreasing": _enhance(colour.contrast),
    "BrightnessIncreasing": _enhance(colour.brightness),
    "SharpnessIncreasing": _enhance(colour.sharpen),
    "ShearX": _move(geometry.shear_x, 0.3),
    "ShearY": _move(geometry.shear_y, 0.3),
    "TranslateXRel": _move(geometry.translate_x, 0.45),
    "TranslateYRel": _move(geometry.translate_y, 0.45),
}


def rand_augment(picture: tf.Tensor, augmentation: Augmentation, draws: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Applies operations drawn with replacement, each with probability 0.5.

    Args:
        picture: Shape (height, width, 3), uint8, of known size.
        augmentation: Says how many operations and how strong.
        draws: Shape (operations, DRAWS_PER_OPERATION), uniform in [0, 1): whether, which, sign.
        strengths: Shape (operations,), standard normal.

    Returns:
        The picture, of the same shape and type.

    Source: timm's rand_augment_transform for "rand-m9-mstd0.5-inc1".
    """
    levels = augmentation.rand_augment_magnitude + augmentation.rand_augment_magnitude_std * strengths
    levels = tf.clip_by_value(levels, 0.0, MAGNITUDE_LIMIT) / MAGNITUDE_LIMIT
    for i in range(augmentation.rand_augment_ops):
        drawn = 1 + tf.cast(draws[i, 1] * len(OPERATIONS), tf.int32)
        sign = tf.where(draws[i, 2] > 0.5, -1.0, 1.0)
        picture = _apply(picture, tf.where(draws[i, 0] <= _PROBABILITY, drawn, 0), levels[i], sign)
    return picture


def _apply(picture: tf.Tensor, number: tf.Tensor, level: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """Applies the operation of a number that counts from 1; 0 applies none."""
    operations = [lambda picture, level, sign: picture, *OPERATIONS.values()]
    branches = [lambda operation=operation: operation(picture, level, sign) for operation in operations]
    return tf.ensure_shape(tf.switch_case(number, branches), picture.shape)
