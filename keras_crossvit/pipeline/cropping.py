"""Which part of a picture becomes the model's image."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from keras_crossvit.pipeline.augmentation import Augmentation

_ATTEMPTS = 10
DRAWS = 2 * _ATTEMPTS + 2


def random_window(augmentation: Augmentation, height: tf.Tensor, width: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """A crop of random area and ratio, the first of ten that fits, or else the largest of allowed ratio in the middle.

    Args:
        augmentation: Says the ranges of area and ratio.
        height: Of the picture, an int32 scalar.
        width: Of the picture.
        draws: Shape (DRAWS,), uniform in [0, 1): ten areas, ten ratios, top, left.

    Returns:
        Shape (4,), int32: top, left, height and width of the crop, which has a pixel at least.

    Source: timm.data.transforms.RandomResizedCropAndInterpolation.get_params.
    """
    (low, high), ratio_range = augmentation.crop_scale, augmentation.crop_ratio
    area = tf.cast(height, tf.float32) * tf.cast(width, tf.float32)
    areas = (low + (high - low) * draws[:_ATTEMPTS]) * area
    log_low, log_high = map(math.log, ratio_range)
    ratios = tf.exp(log_low + (log_high - log_low) * draws[_ATTEMPTS : 2 * _ATTEMPTS])
    widths, heights = (_whole(tf.sqrt(each)) for each in (areas * ratios, areas / ratios))
    fits = (widths <= width) & (heights <= height)
    first = tf.argmax(fits)

    def drawn() -> tf.Tensor:
        size = tf.stack([heights[first], widths[first]])
        space = tf.cast(tf.stack([height, width]) - size + 1, tf.float32)
        return tf.concat([tf.cast(draws[2 * _ATTEMPTS :] * space, tf.int32), size], axis=0)

    return tf.cond(fits[first], drawn, lambda: _largest_window(height, width, *ratio_range))


def middle_window(height: tf.Tensor, width: tf.Tensor, target: tuple[int, int], crop_fraction: float) -> tf.Tensor:
    """The middle of a picture in the shape of `target` (height, width), `crop_fraction` of the tighter side long."""
    window = tf.cast(_largest_window(height, width, target[1] / target[0], target[1] / target[0]), tf.float32)
    size = _whole(window[2:] * crop_fraction)
    return tf.concat([(tf.stack([height, width]) - size) // 2, size], axis=0)


def _largest_window(height: tf.Tensor, width: tf.Tensor, least_ratio: float, largest_ratio: float) -> tf.Tensor:
    """The largest window in the middle whose width / height lies in the range."""
    cropped_width = tf.minimum(width, _whole(tf.cast(height, tf.float32) * largest_ratio))
    cropped_height = tf.minimum(height, _whole(tf.cast(width, tf.float32) / least_ratio))
    size = tf.stack([cropped_height, cropped_width])
    return tf.concat([(tf.stack([height, width]) - size) // 2, size], axis=0)


def _whole(length: Any) -> tf.Tensor:
    return tf.maximum(tf.cast(tf.round(length), tf.int32), 1)
