"""The evaluation transform as a layer."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.layers.bicubic_resize import BicubicResize
from keras_crossvit.models.config import CrossViTConfig, config_of
from keras_crossvit.preprocessing.bicubic import antialiased_bicubic_weights
from keras_crossvit.preprocessing.transforms import (
    LUMA,
    channel_statistics,
    crop_geometry,
    resolve_crop_fraction,
)


@keras.saving.register_keras_serializable(package="keras_crossvit")
class Preprocessing(keras.layers.Layer):
    """Turns images into the two inputs of a CrossViT, as `kc.preprocess` does, but in a graph.

    ```python
    preprocessing = kc.layers.Preprocessing(model)
    dataset = dataset.map(lambda images, labels: (preprocessing(images), labels))   # on the TensorFlow backend
    outputs = model(preprocessing(keras.Input((None, None, 3), dtype="uint8")))     # on every backend
    ```

    Like Pillow, it resizes columns before rows, and rounds the values of uint8 images after each. On scikit-learn's two
    photographs, at 240 and 408 pixels, at most 0.03 % of the values differ from those of `kc.preprocess`, all of them
    by 1 of 255. Images of floats are not rounded and differ by at most 0.0002 of 255. Values are not checked. Nothing
    is augmented.

    Args:
        model_or_config: The `CrossViT`, or its `CrossViTConfig`; it sets image sizes and channels.
        crop_fraction: As in `kc.preprocess`. Defaults to None: 0.875 for image sizes below 384 and 1.0 from 384 on.

    Inputs:
        Images of shape (B, any height, any width, channels) or (any height, any width, channels), uint8 or floats, with
        values from 0 to 255. Grayscale images are repeated to the model's channels; RGB images become grayscale for a
        model of one channel.

    Returns:
        Tuple (small_patch_image, large_patch_image): normalized images at the model's image sizes, such as
        (B, 240, 240, 3) and (B, 224, 224, 3), without B for a single image.

    Raises:
        TypeError: `model_or_config` is neither of them.
        ValueError: the images have other channels, or `crop_fraction` is out of range.

    Source: paper, section 4.1; timm.data.create_transform and timm.models.crossvit.scale_image.
    """

    def __init__(self, model_or_config: Any, *, crop_fraction: float | None = None, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # half precision does not hold the values of an image
        if isinstance(model_or_config, Mapping):  # from a file
            model_or_config = CrossViTConfig(**model_or_config)
        is_config = isinstance(model_or_config, CrossViTConfig)
        self.config: CrossViTConfig = model_or_config if is_config else config_of(model_or_config)
        self.crop_fraction = resolve_crop_fraction(crop_fraction, *self.config.image_sizes[0])
        self._resize = BicubicResize(*self.config.image_sizes[1], dtype="float32")

    def build(self, input_shape: tuple) -> None:
        self._resize.build((None, *self.config.image_sizes[0], self.config.in_channels))

    def call(self, images: Any) -> tuple[Any, Any]:
        is_batch = len(images.shape) == 4
        inputs = self.normalize(self._crop(self._with_channels(images if is_batch else images[None])))
        small, large = (ops.cast(each, self.compute_dtype) for each in inputs)
        return (small, large) if is_batch else (small[0], large[0])

    def normalize(self, images: Any) -> tuple[Any, Any]:
        """Returns both inputs, float32, of images of shape (B, *image_sizes[0], channels) with values 0 to 255."""
        mean, std = (ops.convert_to_tensor(each, "float32") for each in channel_statistics(self.config.in_channels))
        small_patch_image = (ops.cast(images, "float32") / 255.0 - mean) / std
        return small_patch_image, self._resize(small_patch_image)

    def _with_channels(self, images: Any) -> Any:
        found, channels = images.shape[-1], self.config.in_channels
        if found == channels:
            return images
        if found == 1:
            return ops.repeat(images, channels, axis=-1)
        if found == 3 and channels == 1:
            weighted = ops.cast(images, "float32") * ops.convert_to_tensor(LUMA, "float32")
            gray = ops.sum(weighted, axis=-1, keepdims=True)
            return ops.cast(ops.round(gray), "uint8") if _is_uint8(images) else gray
        raise InvalidValueError(
            f"Images of shape {tuple(images.shape)} have {found} channels, but the model takes {channels}; convert "
            f"them, or build the model with in_channels={found}."
        )

    def _crop(self, images: Any) -> Any:
        """Resizes images of shape (B, height, width, channels) and crops the center."""
        height, width = self.config.image_sizes[0]
        old_height, old_width = images.shape[1:3]
        library: Any = np
        maximum: Any = max
        number: Any = float
        if old_height is None or old_width is None:  # TensorFlow traces a graph for images of any size
            library, maximum, number = ops, ops.maximum, functools.partial(ops.cast, dtype="float64")
            old_height, old_width = (ops.cast(each, "int64") for each in ops.shape(images)[1:3])
        new_height, new_width, top, left = crop_geometry(
            old_height, old_width, height, width, self.crop_fraction, maximum=maximum
        )

        def resized_rows(images: Any, old_size: Any, new_size: Any, first: Any, rows: int) -> Any:
            weights = antialiased_bicubic_weights(
                number(old_size), number(new_size), first=number(first), rows=rows, library=library
            )
            return _multiply_rows(images, ops.cast(weights, "float32"))

        turned = resized_rows(ops.transpose(images, (0, 2, 1, 3)), old_width, new_width, left, width)
        return resized_rows(ops.transpose(turned, (0, 2, 1, 3)), old_height, new_height, top, height)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return tuple((*input_shape[:-3], *size, self.config.in_channels) for size in self.config.image_sizes)

    def get_config(self) -> dict[str, Any]:
        arguments = {"model_or_config": self.config.to_dict(), "crop_fraction": self.crop_fraction}
        return {**super().get_config(), **arguments}


def _is_uint8(images: Any) -> bool:
    return keras.backend.standardize_dtype(images.dtype) == "uint8"


def _multiply_rows(images: Any, weights: Any) -> Any:
    """Multiplies the rows of images with a matrix; values of uint8 images are rounded and stay uint8."""
    _, height, width, channels = ops.shape(images)
    resized = ops.matmul(weights, ops.reshape(ops.cast(images, "float32"), (-1, height, width * channels)))
    resized = ops.reshape(resized, (-1, weights.shape[0], width, channels))
    if not _is_uint8(images):
        return resized
    return ops.cast(ops.clip(ops.floor(resized + 0.5), 0, 255), "uint8")
