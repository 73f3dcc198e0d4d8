"""RandAugment's operations on positions: shear, translation and rotation by bicubic interpolation.

They follow Pillow's Image.transform, through which timm does them: cubic coefficient -1, pixels cut off to whole values,
pixels from outside in one colour, the border's pixels repeated for the neighbours of those inside. Each operation takes
a picture of shape (height, width, 3), uint8, of known size, and gives one of the same.
"""

from __future__ import annotations

import math

import tensorflow as tf

from keras_crossvit.data.preprocessing import IMAGENET_MEAN

FILL = tuple(min(255, round(255 * mean)) for mean in IMAGENET_MEAN)  # timm's img_mean
Taps = list[tuple[tf.Tensor, tf.Tensor]]


def shear_x(picture: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """Moves each row sideways by `slope` times its distance from the top."""
    rows, columns = _pixel_centres(picture)
    return _along_columns(picture, columns[None, :] + slope * rows[:, None])


def shear_y(picture: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """Moves each column up or down by `slope` times its distance from the left."""
    rows, columns = _pixel_centres(picture)
    return _along_rows(picture, rows[:, None] + slope * columns[None, :])


def translate_x(picture: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Moves the picture sideways by a share of its width."""
    _, columns = _pixel_centres(picture)
    return _along_columns(picture, columns[None, :] + share * picture.shape[1])


def translate_y(picture: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Moves the picture up or down by a share of its height."""
    rows, _ = _pixel_centres(picture)
    return _along_rows(picture, rows[:, None] + share * picture.shape[0])


def rotate(picture: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Turns the picture around its middle, counterclockwise."""
    height, width, _ = picture.shape
    rows, columns = _pixel_centres(picture)
    from_middle_y, from_middle_x = rows[:, None] - height / 2, columns[None, :] - width / 2
    cosine, sine = tf.cos(-degrees * (math.pi / 180)), tf.sin(-degrees * (math.pi / 180))
    x = cosine * from_middle_x + sine * from_middle_y + width / 2
    y = -sine * from_middle_x + cosine * from_middle_y + height / 2
    return _interpolate(picture, _taps(y, height), _taps(x, width), _lies_within(y, height) & _lies_within(x, width))


def _along_columns(picture: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    height, width, _ = picture.shape
    own_rows = [(tf.range(height)[:, None], None)]
    return _interpolate(picture, own_rows, _taps(x, width), _lies_within(x, width))


def _along_rows(picture: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    height, width, _ = picture.shape
    own_columns = [(tf.range(width)[None, :], None)]
    return _interpolate(picture, _taps(y, height), own_columns, _lies_within(y, height))


def _interpolate(picture: tf.Tensor, row_taps: Taps, column_taps: Taps, is_inside: tf.Tensor) -> tf.Tensor:
    """Weighted sum of the pixels at all pairs of rows and columns; a weight of None is 1."""
    height, width, channels = picture.shape
    pixels = tf.cast(tf.reshape(picture, (height * width, channels)), tf.float32)
    total = 0.0
    for row, row_weight in row_taps:
        across = 0.0
        for column, column_weight in column_taps:
            values = tf.gather(pixels, row * width + column)
            across += values if column_weight is None else values * column_weight[..., None]
        total += across if row_weight is None else across * row_weight[..., None]
    whole = tf.cast(tf.clip_by_value(total, 0.0, 255.0), tf.uint8)
    return tf.where(is_inside[..., None], whole, tf.constant(FILL, tf.uint8))


def _taps(position: tf.Tensor, side: int) -> Taps:
    """The four neighbours of positions along an axis, and their weights in Keys' cubic convolution with -1."""
    first = tf.floor(position - 0.5)
    d = position - 0.5 - first
    weights = (
        d * (-1 + d * (2 - d)),
        1 + d * d * (d - 2),
        d * (1 + d * (1 - d)),
        d * d * (d - 1),
    )
    neighbours = [tf.clip_by_value(tf.cast(first, tf.int32) + offset, 0, side - 1) for offset in (-1, 0, 1, 2)]
    return list(zip(neighbours, weights, strict=True))


def _lies_within(position: tf.Tensor, side: int) -> tf.Tensor:
    return (position >= 0) & (position < side)


def _pixel_centres(picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tuple(tf.range(side, dtype=tf.float32) + 0.5 for side in picture.shape[:2])
