"""Weights whose shape follows from the image: position embeddings and first convolutions, made for another image."""

from __future__ import annotations

import numpy as np

from keras_crossvit.bicubic import cubic_kernel

CUBIC_COEFFICIENT = -0.5  # PyTorch's where it antialiases; without antialiasing it uses -0.75


def resize_position_embedding(embedding: np.ndarray, grid: tuple[int, int], new_grid: tuple[int, int]) -> np.ndarray:
    """Position embedding for another grid of patches, resized bicubically with antialiasing.

    Args:
        embedding: Array of shape (1, 1 + N, C); the row of the class token comes first and is kept.
        grid: (rows, columns) of the N patches.
        new_grid: (rows, columns) of the result's patches.

    Returns:
        Array of shape (1, 1 + rows * columns, C) and the same dtype.

    Source: timm.layers.resample_abs_pos_embed.
    """
    if tuple(grid) == tuple(new_grid):
        return embedding
    channels = embedding.shape[-1]
    patches = embedding[0, 1:].astype("float64").reshape(*grid, channels)
    rows, columns = (antialiased_bicubic_weights(*sizes) for sizes in zip(grid, new_grid, strict=True))
    resized = np.einsum("ri,cj,ijd->rcd", rows, columns, patches, optimize=True).reshape(-1, channels)
    return np.concatenate([embedding[0, :1], resized.astype(embedding.dtype)])[None]


def antialiased_bicubic_weights(source_size: int, target_size: int) -> np.ndarray:
    """Matrix of shape (`target_size`, `source_size`) that resizes one axis as PyTorch and Pillow do.

    Pixel centres lie at half steps. Where the axis shrinks the cubic is stretched by the same factor; beyond the
    border it is cut off and the rest scaled to a sum of 1.
    """
    step = source_size / target_size
    stretch = max(step, 1.0)
    centres = (np.arange(target_size)[:, None] + 0.5) * step
    weights = cubic_kernel(np.abs(np.arange(source_size) + 0.5 - centres) / stretch, CUBIC_COEFFICIENT)
    return weights / weights.sum(axis=1, keepdims=True)


def adapt_input_channels(kernel: np.ndarray, in_channels: int) -> np.ndarray:
    """First convolution's kernel for another number of image channels.

    One channel takes the sum of all, so that a gray image answers as its three equal channels did. More take the
    kernel's channels in turn, scaled so that the sum of the response stays what it was.

    Args:
        kernel: Array of shape (out, in, height, width).
        in_channels: Channels of the images to come.

    Returns:
        Array of shape (out, `in_channels`, height, width) and the same dtype.

    Source: timm.models.adapt_input_conv.
    """
    channels = kernel.shape[1]
    if in_channels == channels:
        return kernel
    if in_channels == 1:
        return kernel.sum(axis=1, keepdims=True)
    repeated = np.take(kernel, np.arange(in_channels) % channels, axis=1)
    return (repeated * (channels / in_channels)).astype(kernel.dtype)
