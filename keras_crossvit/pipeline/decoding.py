"""Encoded pictures into pixels, on the road that the survey chose for each."""

from __future__ import annotations

import enum
import io

import numpy as np
import tensorflow as tf

from keras_crossvit.preprocessing.images import read_image


class Decoder(enum.IntEnum):
    """How a picture is decoded: by TensorFlow where that is exact, which is fastest, and else by Pillow."""

    JPEG = 0
    PNG = 1
    PILLOW = 2
    TENSOR = 3


def decode_window(contents: tf.Tensor, decoder: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Decodes a part of a picture; of a JPEG that part alone.

    Args:
        contents: The encoded picture, a string scalar.
        decoder: A value of `Decoder`, an int32 scalar.
        window: Shape (4,), int32: top, left, height and width in the upright picture.

    Returns:
        Shape (window height, window width, 3), uint8.
    """

    def cut(image: tf.Tensor) -> tf.Tensor:
        top, left, height, width = tf.unstack(window)
        return image[top : top + height, left : left + width]

    branches = {
        Decoder.JPEG: lambda: tf.io.decode_and_crop_jpeg(contents, window, channels=3, dct_method="INTEGER_ACCURATE"),
        Decoder.PNG: lambda: cut(tf.io.decode_png(contents, channels=3)),
        Decoder.PILLOW: lambda: cut(_decode_by_pillow(contents)),
        Decoder.TENSOR: lambda: cut(tf.io.parse_tensor(contents, tf.uint8)),
    }
    pixels = tf.switch_case(decoder, {int(key): branch for key, branch in branches.items()})
    return tf.ensure_shape(pixels, (None, None, 3))


def _decode_by_pillow(contents: tf.Tensor) -> tf.Tensor:
    pixels = tf.numpy_function(_read, [contents], tf.uint8, stateful=False)
    return tf.ensure_shape(pixels, (None, None, 3))


def _read(contents: bytes) -> np.ndarray:
    return read_image(io.BytesIO(contents))
