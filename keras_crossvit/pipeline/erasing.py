"""Random erasing by noise."""

from __future__ import annotations

import math

import tensorflow as tf

_ATTEMPTS = 10
_LEAST_AREA, _LARGEST_AREA = 0.02, 1 / 3
_LEAST_RATIO = 0.3
DRAWS = 1 + 2 * _ATTEMPTS + 2


def erase(image: tf.Tensor, probability: float, draws: tf.Tensor, noise_seed: tf.Tensor) -> tf.Tensor:
    """Replaces a rectangle by normal noise, a value per pixel and channel.

    Args:
        image: Shape (height, width, channels), normalised, of known size.
        probability: That it is done at all.
        draws: Shape (DRAWS,), uniform in [0, 1): whether, ten areas, ten ratios, top, left.
        noise_seed: Shape (2,), int64.

    Returns:
        The image, of the same shape.

    Source: timm.data.random_erasing.RandomErasing in mode "pixel", with its defaults.
    """
    box, is_fitting = rectangle(image.shape[0], image.shape[1], draws[1:])

    def erased() -> tf.Tensor:
        top, left, height, width = tf.unstack(box)
        noise = tf.random.stateless_normal((height, width, image.shape[2]), noise_seed)
        rows = image[top : top + height]
        rows = tf.concat([rows[:, :left], noise, rows[:, left + width :]], axis=1)
        return tf.concat([image[:top], rows, image[top + height :]], axis=0)

    result = tf.cond(is_fitting & (draws[0] <= probability), erased, lambda: image)
    return tf.ensure_shape(result, image.shape)


def rectangle(height: int, width: int, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Top, left, height and width of the first of ten rectangles that fits, and whether one does."""
    areas = (_LEAST_AREA + (_LARGEST_AREA - _LEAST_AREA) * draws[:_ATTEMPTS]) * height * width
    log_ratio = math.log(_LEAST_RATIO)
    ratios = tf.exp(log_ratio * (1 - 2 * draws[_ATTEMPTS : 2 * _ATTEMPTS]))
    sizes = tf.cast(tf.round(tf.sqrt(tf.stack([areas * ratios, areas / ratios], axis=1))), tf.int32)
    fits = tf.reduce_all(sizes < (height, width), axis=1)
    size = sizes[tf.argmax(fits)]
    space = tf.cast((height, width) - size + 1, tf.float32)
    corner = tf.cast(draws[2 * _ATTEMPTS :] * tf.maximum(space, 0.0), tf.int32)
    return tf.concat([corner, size], axis=0), tf.reduce_any(fits)
