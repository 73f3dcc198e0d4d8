"""The large-patch image out of the small-patch image, by the reference's bicubic interpolation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from keras_crossvit.bicubic import bicubic_weights

_BLOCK = 16  # pixels of the result that are computed by one matrix


def bicubic_resizer(
    source: tuple[int, int], target: tuple[int, int], channels: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Makes a function that resizes images (B, height, width, channels) as `layers.BicubicResize` does.

    Each pixel of the result depends on four of a row, and four of a column. So the layer's matrices are zero but for a
    band, and here they are cut into blocks along it: a tenth of the multiplications.
    """
    row_blocks = [
        (start, stop, tf.constant(block)) for start, stop, block in _band(bicubic_weights(source[0], target[0]))
    ]
    # Columns and channels lie together in memory: a weight for each channel of a pixel saves turning the image.
    column_blocks = [
        (start * channels, stop * channels, tf.constant(np.kron(block, np.eye(channels, dtype="float32")).T))
        for start, stop, block in _band(bicubic_weights(source[1], target[1]))
    ]

    def resize(images: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(images, (-1, source[1] * channels))
        resized = tf.concat([rows[:, start:stop] @ block for start, stop, block in column_blocks], axis=1)
        columns = tf.reshape(resized, (-1, source[0], target[1] * channels))
        resized = tf.concat([tf.matmul(block, columns[:, start:stop]) for start, stop, block in row_blocks], axis=1)
        return tf.reshape(resized, (-1, *target, channels))

    return resize


def _band(weights: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """The parts of a matrix by blocks of rows: first and last column that are not zero, and what lies between."""
    for start in range(0, len(weights), _BLOCK):
        block = weights[start : start + _BLOCK]
        (used,) = np.nonzero(block.any(axis=0))
        yield int(used[0]), int(used[-1]) + 1, block[:, used[0] : used[-1] + 1]
