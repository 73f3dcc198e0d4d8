"""Bicubic resizing as the reference does it."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_crossvit._internal.checks import require_integer
from keras_crossvit.layers._factories import arguments_of, require_known_sizes, with_built_shape
from keras_crossvit.preprocessing.bicubic import bicubic_weights


@keras.saving.register_keras_serializable(package="keras_crossvit")
class BicubicResize(keras.layers.Layer):
    """Resizes images like PyTorch's `interpolate(mode="bicubic", align_corners=False)`, without antialiasing.

    Bicubic interpolation is linear and separable, so it is one matrix product over rows and one over columns.

    Args:
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Inputs:
        Images of shape (B, any height, any width, channels); both sides must be known when the layer is built.

    Returns:
        Images of shape (B, `height`, `width`, channels).

    Raises:
        ValueError: a side is not a positive integer, or a side of the images is unknown when the layer is built.

    Source: Keys, "Cubic convolution interpolation for digital image processing", 1981;
    timm.models.crossvit.scale_image, with which the reference makes its second input from the first.
    """

    def __init__(self, height: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height = require_integer("height", height, minimum=1)
        self.width = require_integer("width", width, minimum=1)

    def build(self, input_shape: tuple) -> None:
        require_known_sizes("image sides", input_shape[1:3], "give keras.Input a height and a width.")
        self._input_shape = tuple(input_shape)
        self.row_weights = bicubic_weights(input_shape[1], self.height)
        self.column_weights = bicubic_weights(input_shape[2], self.width)

    def call(self, images: Any) -> Any:
        images = with_built_shape(images, self._input_shape)
        _, height, width, channels = images.shape
        rows = ops.reshape(images, (-1, height, width * channels))
        resized = ops.matmul(ops.convert_to_tensor(self.row_weights, self.compute_dtype), rows)
        resized = ops.reshape(resized, (-1, self.height, width, channels))
        return ops.matmul(ops.convert_to_tensor(self.column_weights, self.compute_dtype), resized)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.height, self.width, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **arguments_of(self, "height", "width")}
