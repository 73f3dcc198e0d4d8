"""Bicubic interpolation of one axis as a matrix, in NumPy, so that exported models run without Keras."""

from __future__ import annotations

from typing import Any

import numpy as np

CUBIC_COEFFICIENT = -0.75  # PyTorch's; tf.image.resize and keras.ops.image.resize use -0.5
ANTIALIASED_COEFFICIENT = -0.5  # of Pillow, and of PyTorch with antialiasing


def bicubic_weights(source_size: int, target_size: int) -> np.ndarray:
    """Returns the matrix of shape (`target_size`, `source_size`) that resizes one axis by cubic convolution.

    Pixel centers lie at half steps, and border pixels are repeated beyond the border. Positions are rounded to float32,
    as in PyTorch: from 240 to 224 pixels that changes the result by 3e-5.
    """
    scale = np.float32(source_size / target_size)
    centers = scale * (np.arange(target_size, dtype="float32") + np.float32(0.5)) - np.float32(0.5)
    left = np.floor(centers).astype(int)
    weights = np.zeros((target_size, source_size))
    for offset in (-1, 0, 1, 2):
        neighbors = np.clip(left + offset, 0, source_size - 1)
        values = cubic_kernel(np.abs(centers - (left + offset)), CUBIC_COEFFICIENT)
        np.add.at(weights, (np.arange(target_size), neighbors), values)
    return weights.astype("float32")


def antialiased_bicubic_weights(
    source_size: Any, target_size: Any, *, first: Any = 0, rows: int | None = None, library: Any = np
) -> Any:
    """Returns the matrix (`target_size`, `source_size`) that resizes one axis as PyTorch and Pillow do.

    Pixel centers are at half steps. Where the axis shrinks, the cubic is stretched by the same factor. Beyond the
    border it is cut off, and the rest is scaled to a sum of 1.

    Args:
        source_size: Pixels of the axis.
        target_size: Pixels of the result.
        first: First row of the matrix to return. Defaults to 0.
        rows: Number of rows to return. Defaults to None: `target_size`.
        library: NumPy, or `keras.ops` for sizes that are tensors, float64. Defaults to NumPy.
    """
    step = source_size / target_size
    centers = (library.arange(target_size if rows is None else rows, dtype="float64")[:, None] + first + 0.5) * step
    offsets = library.arange(source_size, dtype="float64") + 0.5 - centers
    distances = library.abs(offsets) / library.maximum(step, 1.0)
    weights = cubic_kernel(distances, ANTIALIASED_COEFFICIENT, library)
    return weights / library.sum(weights, axis=1, keepdims=True)


def cubic_kernel(distance: Any, coefficient: float, library: Any = np) -> Any:
    """Returns the cubic convolution kernel at distances of 0 or more pixels; it is 0 from 2 pixels on."""
    a = coefficient
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return library.where(distance <= 1, near, library.where(distance < 2, far, 0.0))
