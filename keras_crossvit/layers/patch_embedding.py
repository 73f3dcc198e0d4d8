"""Patch tokens from an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_crossvit._internal.checks import require_integer, require_patches_tile
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.layers._backend_operations import convolve_pixels, pad_sides
from keras_crossvit.layers._factories import (
    arguments_of,
    convolution,
    known_sizes,
    require_known_sizes,
    with_built_shape,
)


@keras.saving.register_keras_serializable(package="keras_crossvit")
class PatchEmbedding(keras.layers.Layer):
    """Cuts an image into patches and embeds each as a token, with one convolution or a stem of three.

    Args:
        embed_dim: Channels C of the tokens.
        patch_size: Side of a patch in pixels.
        stem_strides: Strides of the multi-conv stem's three convolutions, whose product is `patch_size`: 7x7 with
            C / 4 channels, 3x3 with C / 2, 3x3 with C, ReLU in between. Defaults to None: one convolution whose kernel
            and stride are `patch_size`.

    Inputs:
        Images of shape (B, height, width, channels), sides multiples of `patch_size`.

    Returns:
        Patch tokens of shape (B, N, C), row by row.

    Raises:
        ValueError: the product of the strides is not the patch size, C is not divisible by 4 for a stem, or an image
            side is unknown or not a multiple of the patch size.

    Source: paper, section 4.1 ("multi-conv", the dagger models); timm.models.crossvit.PatchEmbed.
    """

    def __init__(
        self, embed_dim: int, patch_size: int, *, stem_strides: Sequence[int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.embed_dim = require_integer("embed_dim", embed_dim, minimum=1)
        self.patch_size = require_integer("patch_size", patch_size, minimum=1)
        self.stem_strides = None if stem_strides is None else tuple(stem_strides)
        if self.stem_strides is None:
            settings = [(self.embed_dim, self.patch_size, self.patch_size)]
        else:
            _check_stem(self.embed_dim, self.patch_size, self.stem_strides)
            channels = (self.embed_dim // 4, self.embed_dim // 2, self.embed_dim)
            settings = list(zip(channels, (7, 3, 3), self.stem_strides, strict=True))
        self.convolutions = tuple(  # tf.train.Checkpoint does not see lists
            convolution(f"convolution_{i}", channels, self.dtype_policy, kernel_size=kernel_size, strides=strides)
            for i, (channels, kernel_size, strides) in enumerate(settings)
        )

    def build(self, input_shape: tuple) -> None:
        require_known_sizes("image sides", input_shape[1:3], "give keras.Input a height and a width.")
        self._input_shape = tuple(input_shape)
        for side in input_shape[1:3]:
            require_patches_tile("image side", side, self.patch_size)
        shape = input_shape
        for each in self.convolutions:
            padding = 2 * _padding(each)
            shape = (shape[0], shape[1] + padding, shape[2] + padding, shape[3])
            each.build(shape)
            shape = each.compute_output_shape(shape)

    def call(self, images: Any) -> Any:
        features = with_built_shape(images, self._input_shape)
        for each in self.convolutions:
            if each is self.convolutions[0]:
                features = convolve_pixels(each, features, _padding(each))
            else:
                features = each(pad_sides(ops.relu(features), _padding(each), _padding(each)))
        return ops.reshape(features, (-1, features.shape[1] * features.shape[2], self.embed_dim))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        sides = known_sizes(input_shape, self._input_shape) if self.built else input_shape[1:]
        rows, columns = (side // self.patch_size for side in sides[:2])
        return (input_shape[0], rows * columns, self.embed_dim)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **arguments_of(self, "embed_dim", "patch_size", "stem_strides")}


def _padding(convolution: keras.layers.Conv2D) -> int:
    """Returns the zeros on each side: half a kernel where patches overlap, none where they tile.

    Keras' padding="same" is uneven at strides above 1; the reference pads evenly.
    """
    kernel_size, stride = convolution.kernel_size[0], convolution.strides[0]
    return 0 if stride == kernel_size else kernel_size // 2


def _check_stem(embed_dim: int, patch_size: int, stem_strides: tuple[int, ...]) -> None:
    if len(stem_strides) != 3 or math.prod(stem_strides) != patch_size:
        raise InvalidValueError(
            f"stem_strides {stem_strides} are not three strides whose product is patch_size {patch_size}; use "
            "(4, 3, 1) for 12 or (4, 2, 2) for 16."
        )
    if embed_dim % 4:
        raise InvalidValueError(
            f"embed_dim {embed_dim} is not divisible by 4, which the multi-conv stem needs; use a multiple of 4 or "
            "stem_strides=None."
        )
