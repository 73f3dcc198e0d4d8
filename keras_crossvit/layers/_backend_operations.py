"""Operations that take another form on JAX, whose compiler is several times faster with it on a GPU.

The other backends have kernels for the plain forms. benchmarks/NOTES.md has the measurements.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_crossvit._internal.dtypes import HALF_PRECISIONS


def on_jax() -> bool:
    """Returns whether Keras computes with JAX."""
    return keras.backend.backend() == "jax"


def gelu(inputs: Any, training: bool | None) -> Any:
    """Computes exact GELU; in training and on JAX, half precision is computed in float32.

    This rounds only once, and training on TensorFlow is faster with it. In inference a cast would keep TensorFlow's
    compilers from fusing GELU with the dense layer. Keras on JAX would use `erfc`, which is slower than `erf`.
    """
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    precise = ops.cast(inputs, keras.backend.result_type(dtype, "float32") if training or on_jax() else dtype)
    if on_jax():
        return ops.cast(0.5 * precise * (1 + ops.erf(precise * 0.5**0.5)), dtype)
    return ops.cast(ops.gelu(precise, approximate=False), dtype)


def replace_class_token(tokens: Any, class_token: Any) -> Any:
    """Returns tokens of shape (B, 1 + N, C) with another class token, shape (B, 1, C)."""
    if on_jax():
        return ops.where(ops.arange(tokens.shape[1])[:, None] == 0, class_token, tokens)
    return ops.concatenate([class_token, tokens[:, 1:]], axis=1)


def convolve_pixels(convolution: keras.layers.Conv2D, images: Any, padding: int) -> Any:
    """Applies a convolution with zeros on each side to images of shape (B, height, width, channels).

    Tensor cores do not take three channels. On JAX, blocks of stride x stride pixels become channels, over which the
    stride is 1. The kernel is filled up with zeros to whole blocks, at its start: there it overlaps the padding.
    """
    kernel_size, stride = convolution.kernel_size[0], convolution.strides[0]
    if not on_jax() or padding != kernel_size - stride:
        return convolution(pad_sides(images, padding, padding))
    size = -(-kernel_size // stride)  # of the kernel, in blocks
    rows, columns = images.shape[1] // stride, images.shape[2] // stride
    blocks = ops.reshape(images, (-1, rows, stride, columns, stride, images.shape[3]))
    blocks = ops.reshape(ops.transpose(blocks, (0, 1, 3, 2, 4, 5)), (-1, rows, columns, stride**2 * images.shape[3]))
    missing = (size * stride - kernel_size, 0)
    kernel = ops.pad(convolution.kernel, (missing, missing, (0, 0), (0, 0)))
    kernel = ops.reshape(kernel, (size, stride, size, stride, images.shape[3], convolution.filters))
    kernel = ops.reshape(ops.transpose(kernel, (0, 2, 1, 3, 4, 5)), (size, size, -1, convolution.filters))
    return ops.conv(pad_sides(blocks, size - 1, 0), kernel, data_format="channels_last") + convolution.bias


def pad_sides(images: Any, before: int, after: int) -> Any:
    """Adds rows and columns of zeros before and after images of shape (B, height, width, channels)."""
    if before == after == 0:
        return images
    return ops.pad(images, ((0, 0), (before, after), (before, after), (0, 0)))


class LayerNormalization(keras.layers.LayerNormalization):
    """Keras' layer over the last axis; on JAX, half precision is read once, for mean and variance together.

    The variance is the mean of squares less the square of the mean, in float32. What cancels there is below the
    resolution of half precision.
    """

    def call(self, inputs: Any) -> Any:
        if not on_jax() or keras.backend.standardize_dtype(inputs.dtype) not in HALF_PRECISIONS:
            return super().call(inputs)
        precise = ops.cast(inputs, "float32")
        mean = ops.mean(precise, axis=-1, keepdims=True)
        variance = ops.maximum(ops.mean(ops.square(precise), axis=-1, keepdims=True) - ops.square(mean), 0)
        normalized = (precise - mean) * ops.rsqrt(variance + self.epsilon)
        return ops.cast(normalized * self.gamma + self.beta, inputs.dtype)
