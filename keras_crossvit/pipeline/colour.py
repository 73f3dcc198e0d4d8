"""RandAugment's operations on colours, equal to Pillow's, through which timm does them.

Each takes a picture of shape (height, width, 3), uint8, of known size, and gives one of the same.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_LEVELS = 256
_GRAY_SHARES = np.array([19595, 38470, 7471], "int32")  # of 65,536: Pillow's ITU-R 601
_SMOOTHING_CENTRE, _SMOOTHING_SUM = 5, 13  # Pillow's ImageFilter.SMOOTH: ones around a five


def auto_contrast(picture: tf.Tensor) -> tf.Tensor:
    """Stretches each channel so that its darkest value becomes 0 and its lightest 255."""
    darkest, lightest = (tf.cast(f(picture, axis=(0, 1)), tf.float64) for f in (tf.reduce_min, tf.reduce_max))
    flat = lightest <= darkest
    scale = tf.where(flat, tf.ones_like(darkest), 255.0 / tf.where(flat, tf.ones_like(darkest), lightest - darkest))
    offset = tf.where(flat, tf.zeros_like(darkest), -darkest * scale)
    levels = tf.range(_LEVELS, dtype=tf.float64)[:, None]
    return _by_table(picture, tf.clip_by_value(tf.cast(levels * scale + offset, tf.int32), 0, 255))


def equalize(picture: tf.Tensor) -> tf.Tensor:
    """Spreads each channel's values so that all are about equally frequent."""
    tables = []
    for channel in range(3):
        counts = tf.math.bincount(tf.reshape(tf.cast(picture[..., channel], tf.int32), [-1]), minlength=_LEVELS)
        last = counts[tf.reduce_max(tf.where(counts > 0))]
        step = (tf.reduce_sum(counts) - last) // 255
        spread = (step // 2 + tf.cumsum(counts, exclusive=True)) // tf.maximum(step, 1)
        tables.append(tf.where(step > 0, tf.minimum(spread, 255), tf.range(_LEVELS)))
    return _by_table(picture, tf.stack(tables, axis=1))


def invert(picture: tf.Tensor) -> tf.Tensor:
    """Turns light into dark."""
    return 255 - picture


def posterize(picture: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keeps the given number of leading bits, 1 to 8."""
    return tf.bitwise.bitwise_and(picture, tf.cast(256 - tf.bitwise.left_shift(1, 8 - bits), tf.uint8))


def solarize(picture: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts values from the threshold (0 to 256) on."""
    unchanged = tf.cast(picture, tf.int32) < threshold
    return tf.where(unchanged, picture, 255 - picture)


def solarize_add(picture: tf.Tensor, addition: tf.Tensor) -> tf.Tensor:
    """Makes values below 128 lighter by the addition (0 to 128)."""
    lighter = picture + tf.cast(addition, tf.uint8)  # below 128 it cannot pass 255
    return tf.where(picture < 128, lighter, picture)


def saturate(picture: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Moves colours away from their gray for a factor above 1, towards it below."""
    return _blend(tf.cast(_gray(picture), tf.float32)[..., None], picture, factor)


def contrast(picture: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Moves values away from the picture's mean gray for a factor above 1, towards it below."""
    pixels = tf.cast(tf.size(picture) // 3, tf.float64)
    mean = tf.cast(tf.reduce_sum(tf.cast(_gray(picture), tf.int64)), tf.float64) / pixels
    return _blend(tf.cast(tf.floor(mean + 0.5), tf.float32), picture, factor)


def brightness(picture: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiplies values by the factor."""
    return _blend(tf.constant(0.0), picture, factor)


def sharpen(picture: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Moves values away from their neighbours' for a factor above 1, towards them below; the outermost stay."""
    values = tf.cast(picture, tf.float32)
    rows = values[:-2] + values[1:-1] + values[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = values[1:-1, 1:-1]
    smoothed = tf.floor((around + (_SMOOTHING_CENTRE - 1) * inner) / _SMOOTHING_SUM + 0.5)
    return _blend(values + tf.pad(smoothed - inner, ((1, 1), (1, 1), (0, 0))), picture, factor)


def _gray(picture: tf.Tensor) -> tf.Tensor:
    red, green, blue = (tf.cast(picture[..., channel], tf.int32) * _GRAY_SHARES[channel] for channel in range(3))
    return tf.bitwise.right_shift(red + green + blue + 0x8000, 16)


def _blend(other: tf.Tensor, picture: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Gives other + factor * (picture - other), cut off to whole values as Pillow's Image.blend cuts them off."""
    blended = other + factor * (tf.cast(picture, tf.float32) - other)
    return tf.cast(tf.clip_by_value(blended, 0.0, 255.0), tf.uint8)


def _by_table(picture: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Looks each value up in a table of shape (256, 3)."""
    height, width, channels = picture.shape
    values = tf.cast(tf.reshape(picture, (height, width * channels)), tf.int32)
    places = values * channels + np.tile(np.arange(channels, dtype="int32"), width)
    return tf.reshape(tf.gather(tf.cast(tf.reshape(table, [-1]), tf.uint8), places), picture.shape)
