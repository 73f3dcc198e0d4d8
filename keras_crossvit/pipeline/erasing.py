"""Random erasing."""

from __future__ import annotations

import math

import tensorflow as tf

_ATTEMPTS = 10
_MIN_AREA, _MAX_AREA = 0.02, 1 / 3
_MIN_RATIO = 0.3
DRAWS = 1 + 2 * _ATTEMPTS + 2  # random numbers per image


def erase(image: tf.Tensor, probability: float, draws: tf.Tensor, noise_seed: tf.Tensor) -> tf.Tensor:
    """Replaces a rectangle by normal noise, one value per pixel and channel.

    Args:
        image: Normalized image of shape (height, width, channels), with a static shape.
        probability: Probability that anything is erased.
        draws: Shape (DRAWS,), uniform in [0, 1): whether, ten areas, ten ratios, top, left.
        noise_seed: Shape (2,), int64.

    Returns:
        The image, of the same shape.

    Source: timm.data.random_erasing.RandomErasing in mode "pixel", with its defaults.
    """
    box, fits = rectangle(image.shape[0], image.shape[1], draws[1:])

    def erased() -> tf.Tensor:
        top, left, height, width = tf.unstack(box)
        noise = tf.random.stateless_normal((height, width, image.shape[2]), noise_seed)
        rows = image[top : top + height]
        rows = tf.concat([rows[:, :left], noise, rows[:, left + width :]], axis=1)
        return tf.concat([image[:top], rows, image[top + height :]], axis=0)

    return tf.ensure_shape(tf.cond(fits & (draws[0] <= probability), erased, lambda: image), image.shape)


def rectangle(height: int, width: int, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns top, left, height and width of the first of ten rectangles that fits, and whether one does."""
    areas = (_MIN_AREA + (_MAX_AREA - _MIN_AREA) * draws[:_ATTEMPTS]) * height * width
    ratios = tf.exp(math.log(_MIN_RATIO) * (1 - 2 * draws[_ATTEMPTS : 2 * _ATTEMPTS]))
    sizes = tf.cast(tf.round(tf.sqrt(tf.stack([areas * ratios, areas / ratios], axis=1))), tf.int32)
    fits = tf.reduce_all(sizes < (height, width), axis=1)
    size = sizes[tf.argmax(fits)]
    space = tf.cast((height, width) - size + 1, tf.float32)
    corner = tf.cast(draws[2 * _ATTEMPTS :] * tf.maximum(space, 0.0), tf.int32)
    return tf.concat([corner, size], axis=0), tf.reduce_any(fits)
