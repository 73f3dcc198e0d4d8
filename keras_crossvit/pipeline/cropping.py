"""Crop windows: random ones for training, the center for evaluation."""

from __future__ import annotations

import math

import tensorflow as tf

from keras_crossvit.pipeline.augmentation import Augmentation

_ATTEMPTS = 10
DRAWS = 2 * _ATTEMPTS + 2  # random numbers per image


def random_window(augmentation: Augmentation, height: tf.Tensor, width: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Returns a crop of random area and ratio: the first of ten that fits, or the largest centered one of a valid ratio.

    Args:
        augmentation: Ranges of area and ratio.
        height: Height of the image, an int32 scalar.
        width: Width of the image, the same.
        draws: Shape (DRAWS,), uniform in [0, 1): ten areas, ten ratios, top, left.

    Returns:
        Shape (4,), int32: top, left, height and width of the crop, at least one pixel.

    Source: timm.data.transforms.RandomResizedCropAndInterpolation.get_params.
    """
    (low, high), ratio_range = augmentation.crop_scale or (1.0, 1.0), augmentation.crop_ratio
    area = tf.cast(height, tf.float32) * tf.cast(width, tf.float32)
    areas = (low + (high - low) * draws[:_ATTEMPTS]) * area
    log_low, log_high = map(math.log, ratio_range)
    ratios = tf.exp(log_low + (log_high - log_low) * draws[_ATTEMPTS : 2 * _ATTEMPTS])
    widths, heights = (_round(tf.sqrt(each)) for each in (areas * ratios, areas / ratios))
    fits = (widths <= width) & (heights <= height)
    first = tf.argmax(fits)

    def first_that_fits() -> tf.Tensor:
        size = tf.stack([heights[first], widths[first]])
        space = tf.cast(tf.stack([height, width]) - size + 1, tf.float32)
        return tf.concat([tf.cast(draws[2 * _ATTEMPTS :] * space, tf.int32), size], axis=0)

    return tf.cond(fits[first], first_that_fits, lambda: _largest_window(height, width, *ratio_range))


def center_window(height: tf.Tensor, width: tf.Tensor, target: tuple[int, int], crop_fraction: float) -> tf.Tensor:
    """Returns the centered window in the proportion of `target` (height, width), `crop_fraction` of the tighter side."""
    window = tf.cast(_largest_window(height, width, target[1] / target[0], target[1] / target[0]), tf.float32)
    return _centered(height, width, _round(window[2:] * crop_fraction))


def _largest_window(height: tf.Tensor, width: tf.Tensor, min_ratio: float, max_ratio: float) -> tf.Tensor:
    """Returns the largest centered window whose width / height is in the range."""
    cropped_width = tf.minimum(width, _round(tf.cast(height, tf.float32) * max_ratio))
    cropped_height = tf.minimum(height, _round(tf.cast(width, tf.float32) / min_ratio))
    return _centered(height, width, tf.stack([cropped_height, cropped_width]))


def _centered(height: tf.Tensor, width: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.concat([(tf.stack([height, width]) - size) // 2, size], axis=0)


def _round(length: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.cast(tf.round(length), tf.int32), 1)
