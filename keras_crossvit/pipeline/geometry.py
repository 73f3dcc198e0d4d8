"""RandAugment's operations on positions: shear, translation and rotation by bicubic interpolation.

They follow Pillow's Image.transform, through which timm does them: cubic coefficient -1, pixels cut off to whole
values, pixels from outside in one colour, the border's pixels repeated for the neighbours of those inside. Each
operation takes a picture of shape (height, width, 3), uint8, of known size, and gives one of the same.

Inside, an image lies as (height, width * 3): a weight per row or per column then meets long rows of numbers, where
TensorFlow is several times faster than with an innermost axis of three.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from keras_crossvit.data.preprocessing import IMAGENET_MEAN

FILL = np.array([min(255, round(255 * mean)) for mean in IMAGENET_MEAN], "uint8")  # timm's img_mean
_ROWS, _COLUMNS = 0, 1


def shear_x(picture: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """Moves each row sideways by `slope` times its distance from the top."""
    return _shifted(picture, _COLUMNS, slope * (_indices(picture, _ROWS) + 0.5))


def shear_y(picture: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """Moves each column up or down by `slope` times its distance from the left."""
    return _shifted(picture, _ROWS, slope * (_indices(picture, _COLUMNS) + 0.5))


def translate_x(picture: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Moves the picture sideways by a share of its width."""
    return _shifted(picture, _COLUMNS, tf.reshape(share * picture.shape[1], (1, 1)))


def translate_y(picture: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Moves the picture up or down by a share of its height."""
    return _shifted(picture, _ROWS, tf.reshape(share * picture.shape[0], (1, 1)))


def rotate(picture: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Turns the picture around its middle, counterclockwise."""
    height, width, _ = picture.shape
    y = _indices(picture, _ROWS) + 0.5 - height / 2
    x = _indices(picture, _COLUMNS) + 0.5 - width / 2
    cosine, sine = tf.cos(-degrees * (math.pi / 180)), tf.sin(-degrees * (math.pi / 180))
    y, x = -sine * x + cosine * y + height / 2, cosine * x + sine * y + width / 2
    first_row, first_column = tf.floor(y - 0.5), tf.floor(x - 0.5)
    rows, columns = _neighbours(first_row, height), _neighbours(first_column, width)
    behind_row, behind_column = _per_channel(y - 0.5 - first_row), _per_channel(x - 0.5 - first_column)
    across = [_cubic([_pixels(picture, row * width + column) for column in columns], behind_column) for row in rows]
    is_inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return _framed(picture, _cubic(across, behind_row), is_inside)


def _shifted(picture: tf.Tensor, axis: int, shift: tf.Tensor) -> tf.Tensor:
    """Takes each pixel from `shift` further along an axis; one number per row or per column, or one for all."""
    side, width = picture.shape[axis], picture.shape[1]
    along, other = _indices(picture, axis), _indices(picture, 1 - axis, tf.int32)
    whole = tf.floor(shift)
    behind = _per_channel(shift - whole) if shift.shape[1] == width else shift - whole
    neighbours = _neighbours(along + whole, side)
    places = [each * width + other if axis == _ROWS else other * width + each for each in neighbours]
    position = along + 0.5 + shift
    is_inside = tf.broadcast_to((position >= 0) & (position < side), picture.shape[:2])
    return _framed(picture, _cubic([_pixels(picture, place) for place in places], behind), is_inside)


def _pixels(picture: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """The pixels at places, numbered row by row; shape (height, width * channels)."""
    height, width, channels = picture.shape
    pixels = tf.cast(tf.reshape(picture, (height * width, channels)), tf.float32)
    return tf.reshape(tf.gather(pixels, tf.broadcast_to(places, (height, width))), (height, width * channels))


def _framed(picture: tf.Tensor, values: tf.Tensor, is_inside: tf.Tensor) -> tf.Tensor:
    """Whole values in the shape of the picture, with the colour of what lies outside."""
    whole = tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)
    framed = tf.where(_per_channel(is_inside), whole, np.tile(FILL, picture.shape[1]))
    return tf.reshape(framed, picture.shape)


def _neighbours(second: tf.Tensor, side: int) -> list[tf.Tensor]:
    """The four pixels along an axis among which a position lies, by the second of them."""
    return [tf.clip_by_value(tf.cast(second, tf.int32) + offset, 0, side - 1) for offset in (-1, 0, 1, 2)]


def _cubic(values: list[tf.Tensor], behind: tf.Tensor) -> tf.Tensor:
    """Value at a distance of 0 to 1 behind the second of four neighbours, by Keys' convolution with -1.

    As a polynomial of the distance, not as a sum of weighted values: four equal neighbours then give exactly their
    value, where a sum may fall just short of it and be cut off to the value below.
    """
    first, second, third, fourth = values
    quadratic = 2 * (first - second) + third - fourth
    cubic = second - first - third + fourth
    return second + behind * (third - first + behind * (quadratic + behind * cubic))


def _per_channel(values: tf.Tensor) -> tf.Tensor:
    """From (height, width) to (height, width * channels)."""
    return tf.repeat(values, len(FILL), axis=1)


def _indices(picture: tf.Tensor, axis: int, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Numbers of the rows, shape (height, 1), or of the columns, shape (1, width)."""
    return tf.expand_dims(tf.range(picture.shape[axis], dtype=dtype), 1 - axis)
