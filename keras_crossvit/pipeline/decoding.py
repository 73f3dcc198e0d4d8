"""Decodes images with TensorFlow where the result equals Pillow's, and with Pillow otherwise."""

from __future__ import annotations

import enum
import io

import numpy as np
import tensorflow as tf

from keras_crossvit.preprocessing.images import read_image


class Decoder(enum.IntEnum):
    """The decoder of an image, chosen by the survey; shards store its value."""

    JPEG = 0  # TensorFlow's, which decodes only the crop
    PNG = 1  # TensorFlow's
    PILLOW = 2
    TENSOR = 3  # tf.io.parse_tensor


def decode_window(contents: tf.Tensor, decoder: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Decodes a window (top, left, height, width of the upright image) to RGB, uint8; `decoder` is a `Decoder`."""

    def crop(image: tf.Tensor) -> tf.Tensor:
        top, left, height, width = tf.unstack(window)
        return image[top : top + height, left : left + width]

    branches = {
        Decoder.JPEG: lambda: tf.io.decode_and_crop_jpeg(contents, window, channels=3, dct_method="INTEGER_ACCURATE"),
        Decoder.PNG: lambda: crop(tf.io.decode_png(contents, channels=3)),
        Decoder.PILLOW: lambda: crop(_decode_with_pillow(contents)),
        Decoder.TENSOR: lambda: crop(tf.io.parse_tensor(contents, tf.uint8)),
    }
    pixels = tf.switch_case(decoder, {int(key): branch for key, branch in branches.items()})
    return tf.ensure_shape(pixels, (None, None, 3))


def _decode_with_pillow(contents: tf.Tensor) -> tf.Tensor:
    def read(contents: bytes) -> np.ndarray:
        return read_image(io.BytesIO(contents))

    return tf.ensure_shape(tf.numpy_function(read, [contents], tf.uint8, stateful=False), (None, None, 3))
