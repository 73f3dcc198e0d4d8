"""Mixup and CutMix, and the large-patch input, which is made from the mixed image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.pipeline.augmentation import Augmentation
from keras_crossvit.preprocessing.bicubic import bicubic_weights

_MIXING = 1  # seeds a random stream of its own; see order.py
_BLOCK = 16  # rows of the resized image that one matrix computes


@dataclasses.dataclass(frozen=True)
class MixingPlan:
    """How images are mixed in each step of an epoch.

    Args:
        fractions: Shape (steps,), float32: the fraction of its own target that an image keeps.
        blends: Shape (steps,), float32: the fraction of its own pixels in mixup; 1 in CutMix.
        boxes: Shape (steps, 4), int32: top, bottom, left and right of the CutMix rectangle; empty in mixup.
    """

    fractions: np.ndarray
    blends: np.ndarray
    boxes: np.ndarray


def mixing_plan(
    augmentation: Augmentation, steps: int, height: int, width: int, *, seed: int, epoch: int
) -> MixingPlan:
    """Chooses mixup or CutMix and its parameters for each step, for images of `height` x `width`.

    Source: timm.data.mixup.Mixup in mode "batch", with correct_lam.
    """
    random = np.random.RandomState([_MIXING, seed, epoch])
    alphas = augmentation.mixup, augmentation.cutmix
    is_cutmix = random.uniform(size=steps) < (float(alphas[1] > 0) if 0 in alphas else augmentation.mix_switch)
    of_mixup, of_cutmix = (random.beta(alpha, alpha, steps) if alpha else np.ones(steps) for alpha in alphas)
    fractions = np.where(is_cutmix, of_cutmix, of_mixup)
    centers = [random.randint(0, side, steps) for side in (height, width)]
    edges = []
    for center, side in zip(centers, (height, width), strict=True):
        cut = (side * np.sqrt(1 - fractions)).astype(int)
        edges += [np.clip(center - cut // 2, 0, side), np.clip(center + (cut + 1) // 2, 0, side)]
    boxes = np.stack(edges, axis=1) * is_cutmix[:, None]
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    return MixingPlan(
        fractions=np.where(is_cutmix, 1 - area / (height * width), fractions).astype("float32"),
        blends=np.where(is_cutmix, 1, fractions).astype("float32"),
        boxes=boxes.astype("int32"),
    )


@tf.function(autograph=False)  # traced once for all epochs
def mix_and_resize(images: tf.Tensor, targets: tf.Tensor, mixing: dict, config: CrossViTConfig) -> tuple:
    """Mixes two images and targets, or leaves a single one as it is, and adds the large-patch input.

    `mixing` has the step's fields of a `MixingPlan`, repeated for each image. Returns ((small_patch_image,
    large_patch_image), target).
    """
    if images.shape[0] == 2:
        top, bottom, left, right = tf.unstack(mixing["boxes"][0])
        blend, fraction = mixing["blends"][0], mixing["fractions"][0]

        def cutmix() -> tf.Tensor:
            # Columns and channels are one axis, since an innermost axis of three is slow.
            _, height, width, channels = images.shape
            rows, columns = tf.range(height)[:, None], np.repeat(np.arange(width, dtype="int32"), channels)
            is_inside = (rows >= top) & (rows < bottom) & ((columns >= left) & (columns < right))
            first, second = tf.unstack(tf.reshape(images, (2, *is_inside.shape)))
            both = [tf.where(is_inside, second, first), tf.where(is_inside, first, second)]
            return tf.reshape(tf.stack(both), images.shape)

        def mixup() -> tf.Tensor:
            return images * blend + tf.reverse(images, [0]) * (1 - blend)

        images = tf.ensure_shape(tf.cond(bottom > top, cutmix, mixup), images.shape)
        targets = targets * fraction + tf.reverse(targets, [0]) * (1 - fraction)
    return (images, bicubic_resizer(config)(images)), targets


def bicubic_resizer(config: CrossViTConfig, *, max_blocks: int | None = None) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function that makes large-patch images of small-patch images, as `layers.BicubicResize` does.

    Each pixel of the result depends on four pixels of a row and of a column, so the layer's matrices are banded. Here
    they are cut into blocks along the band, at most `max_blocks` if given, which takes a tenth of the multiplications.
    """
    (source, target), channels = config.image_sizes, config.in_channels
    row_blocks = [
        (start, stop, tf.constant(block))
        for start, stop, block in _band(bicubic_weights(source[0], target[0]), max_blocks)
    ]
    # Columns and channels are adjacent in memory: one weight per channel of a pixel saves a transposition.
    column_blocks = [
        (start * channels, stop * channels, tf.constant(np.kron(block, np.eye(channels, dtype="float32")).T))
        for start, stop, block in _band(bicubic_weights(source[1], target[1]), max_blocks)
    ]

    def resize(images: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(images, (-1, source[1] * channels))
        resized = tf.concat([rows[:, start:stop] @ block for start, stop, block in column_blocks], axis=1)
        columns = tf.reshape(resized, (-1, source[0], target[1] * channels))
        resized = tf.concat([tf.matmul(block, columns[:, start:stop]) for start, stop, block in row_blocks], axis=1)
        return tf.reshape(resized, (-1, *target, channels))

    return resize


def _band(weights: np.ndarray, max_blocks: int | None) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields blocks of a banded matrix: the first and last column that are not zero, and the values between."""
    rows = max(_BLOCK, -(-len(weights) // max_blocks)) if max_blocks else _BLOCK
    for start in range(0, len(weights), rows):
        block = weights[start : start + rows]
        (used,) = np.nonzero(block.any(axis=0))
        yield int(used[0]), int(used[-1]) + 1, block[:, used[0] : used[-1] + 1]
