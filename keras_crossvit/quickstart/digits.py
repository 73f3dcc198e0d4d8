"""Scikit-learn's 1,797 handwritten digits as inputs of a CrossViT."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_crossvit._internal.optional import require_library
from keras_crossvit.layers import BicubicResize
from keras_crossvit.preprocessing import preprocess

CLASSES = tuple(str(digit) for digit in range(10))
HELD_OUT = 0.2
_DARKEST = 16  # the digits count the dark pixels of 4 x 4 fields


@dataclasses.dataclass(frozen=True)
class Digits:
    """Digits of one split.

    Args:
        images: Shape (B, 8, 8), 0 to 255, dark strokes being high.
        inputs: `small_patch_image` and `large_patch_image`.
        labels: Shape (B,), 0 to 9.
    """

    images: np.ndarray
    inputs: tuple[np.ndarray, ...]
    labels: np.ndarray


def load_digits(config: Any, *, seed: int) -> tuple[Digits, Digits]:
    """Digits to learn from and held-out ones, a fifth of each class, for a model of this configuration."""
    datasets = require_library("sklearn.datasets", "quickstart")
    model_selection = require_library("sklearn.model_selection", "quickstart")
    digits = datasets.load_digits()
    images = (digits.images * (255 / _DARKEST)).astype("float32")
    split = model_selection.train_test_split(
        images, digits.target, test_size=HELD_OUT, stratify=digits.target, random_state=seed
    )
    train, validation, learnt_labels, held_out_labels = split
    return _digits(train, learnt_labels, config), _digits(validation, held_out_labels, config)


def augmented_batches(digits: Digits, *, batch_size: int, seed: int) -> Any:
    """Batches in another order every round, each digit moved, turned and scaled a little.

    Both inputs come from one augmented picture, the second by the reference's bicubic interpolation, as in training of
    the published models.

    Args:
        digits: Digits to learn from.
        batch_size: Digits of a batch.
        seed: Fixes order and augmentation.

    Returns:
        A `tf.data.Dataset` of ((small_patch_image, large_patch_image), labels).
    """
    import tensorflow as tf

    from keras_crossvit.pipeline.batches import without_tuning

    small_patch_image, large_patch_image = digits.inputs
    augment = keras.Sequential(
        [
            keras.layers.RandomTranslation(0.08, 0.08, fill_mode="nearest", seed=seed),
            keras.layers.RandomRotation(0.03, fill_mode="nearest", seed=seed + 1),
            keras.layers.RandomZoom(0.1, fill_mode="nearest", seed=seed + 2),
        ]
    )
    resize = BicubicResize(*large_patch_image.shape[1:3])

    def both_inputs(images: Any, labels: Any) -> Any:
        augmented = augment(images, training=True)
        return (augmented, resize(augmented)), labels

    batches = tf.data.Dataset.from_tensor_slices((small_patch_image, digits.labels))
    shuffled = batches.shuffle(len(digits.labels), seed=seed).batch(batch_size)
    return without_tuning(shuffled.map(both_inputs).prefetch(1))


def _digits(images: np.ndarray, labels: np.ndarray, config: Any) -> Digits:
    # A digit fills its picture, so nothing is cropped away.
    return Digits(images, preprocess(images[..., None], config, crop_fraction=1.0), labels)
