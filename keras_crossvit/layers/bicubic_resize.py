"""The reference's bicubic interpolation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_crossvit.checks import require_integer

CUBIC_COEFFICIENT = -0.75  # PyTorch's; tf.image.resize and keras.ops.image.resize use -0.5


@keras.saving.register_keras_serializable(package="keras_crossvit")
class BicubicResize(keras.layers.Layer):
    """Resizes images as PyTorch's `interpolate(mode="bicubic", align_corners=False)` does, without antialiasing.

    The interpolation is linear in the pixels and separable, so two constant matrices do it: one over rows, one over
    columns.

    Args:
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Inputs:
        Images of shape (B, any height, any width, channels); both sides must be known when the layer is built.

    Returns:
        Images of shape (B, `height`, `width`, channels).

    Raises:
        ValueError: a side is not a positive integer.

    Source: Keys, "Cubic convolution interpolation for digital image processing", 1981; timm.models.crossvit's
    scale_image, by which the reference makes its second input from the first.
    """

    def __init__(self, height: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height = require_integer("height", height, minimum=1)
        self.width = require_integer("width", width, minimum=1)

    def build(self, input_shape: tuple) -> None:
        self.row_weights = bicubic_weights(input_shape[1], self.height)
        self.column_weights = bicubic_weights(input_shape[2], self.width)

    def call(self, images: Any) -> Any:
        _, height, width, channels = images.shape
        flat_rows = ops.reshape(images, (-1, height, width * channels))
        resized = ops.matmul(ops.convert_to_tensor(self.row_weights, self.compute_dtype), flat_rows)
        resized = ops.reshape(resized, (-1, self.height, width, channels))
        return ops.matmul(ops.convert_to_tensor(self.column_weights, self.compute_dtype), resized)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.height, self.width, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height": self.height, "width": self.width}


def bicubic_weights(source_size: int, target_size: int) -> np.ndarray:
    """Matrix of shape (`target_size`, `source_size`) that resizes one axis by cubic convolution.

    Pixel centres lie at half steps; neighbours beyond the border repeat the border's pixel. Positions are rounded to
    float32 as PyTorch rounds them: at 240 to 224 pixels that moves the result by 3e-5.
    """
    scale = np.float32(source_size / target_size)
    centres = scale * (np.arange(target_size, dtype="float32") + np.float32(0.5)) - np.float32(0.5)
    left = np.floor(centres).astype(int)
    weights = np.zeros((target_size, source_size))
    for offset in (-1, 0, 1, 2):
        neighbours = np.clip(left + offset, 0, source_size - 1)
        values = cubic_kernel(np.abs(centres - (left + offset)), CUBIC_COEFFICIENT)
        np.add.at(weights, (np.arange(target_size), neighbours), values)
    return weights.astype("float32")


def cubic_kernel(distance: np.ndarray, coefficient: float) -> np.ndarray:
    """Value of the cubic convolution kernel at a distance of 0 or more pixels; it ends at 2."""
    a = coefficient
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
