"""From a record to an augmented image and its target, and from two such to a mixed pair."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_crossvit.pipeline import cropping, erasing
from keras_crossvit.pipeline.augmentation import Augmentation
from keras_crossvit.pipeline.decoding import decode_window
from keras_crossvit.pipeline.rand_augment import DRAWS_PER_OPERATION, rand_augment
from keras_crossvit.preprocessing.bicubic import bicubic_weights
from keras_crossvit.preprocessing.transforms import IMAGENET_MEAN, IMAGENET_STD, LUMA, default_crop_fraction

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


@functools.lru_cache(maxsize=8)
def augment_sample(config: Any, augmentation: Augmentation) -> Callable[[dict, tf.Tensor], tuple]:
    """Makes the function (record, keys) -> (normalised image, target) for a model's images.

    It is traced once, and serves all epochs: what differs among them are the keys of the three streams of random
    numbers (uniform, normal, noise).
    """
    height, width = config.image_sizes[0]
    crop_draws = cropping.DRAWS + 1
    operations = augmentation.rand_augment_ops
    total = crop_draws + operations * DRAWS_PER_OPERATION + erasing.DRAWS

    def edit(pixels: np.ndarray, flips: bool, draws: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        # By Pillow, in which all of this takes half the time of TensorFlow's operations, and outside of Python's lock.
        edited = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        edited = edited.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flips else edited
        return np.asarray(rand_augment(edited, augmentation, draws, strengths))

    @tf.function
    def augment(record: dict, keys: tf.Tensor) -> tuple:
        seeds = [tf.stack([keys[i], record["sample"]]) for i in range(3)]
        draws = tf.random.stateless_uniform((total,), seeds[0])
        of_crop, of_operations, of_erasing = tf.split(
            draws, (crop_draws, total - crop_draws - erasing.DRAWS, erasing.DRAWS)
        )
        size = record["height"], record["width"]
        if augmentation.crop_scale is None:
            window = cropping.middle_window(*size, (height, width), default_crop_fraction(height, width))
        else:
            window = cropping.random_window(augmentation, *size, of_crop[:-1])
        contents = tf.io.read_file(record["path"]) if "path" in record else record["contents"]
        pixels = decode_window(contents, record["decoder"], window)
        strengths = tf.random.stateless_normal((operations,), seeds[1])
        drawn = tf.reshape(of_operations, (operations, DRAWS_PER_OPERATION))
        flips = of_crop[-1] < augmentation.horizontal_flip
        edited = tf.numpy_function(edit, [pixels, flips, drawn, strengths], tf.uint8, stateful=False)
        edited = tf.ensure_shape(edited, (height, width, 3))
        image = _normalise(edited, config.in_channels)
        if augmentation.erasing:
            image = erasing.erase(image, augmentation.erasing, of_erasing, seeds[2])
        return image, target_of(record["label"], config.num_classes, augmentation.label_smoothing)

    return augment


@functools.lru_cache(maxsize=8)
def mix_and_resize(config: Any) -> Callable[[tf.Tensor, tf.Tensor, dict], tuple]:
    """Makes the function (images, targets, mixing) -> ((small_patch_image, large_patch_image), target) of a unit.

    A unit is a picture, or two that are mixed with each other.
    """
    height, width = config.image_sizes[0]
    resize = bicubic_resizer(*config.image_sizes, config.in_channels)

    @tf.function
    def mix(images: tf.Tensor, targets: tf.Tensor, mixing: dict) -> tuple:
        if images.shape[0] == 2:
            top, bottom, left, right = tf.unstack(mixing["boxes"][0])
            blend, own_fraction = mixing["blends"][0], mixing["shares"][0]

            def exchanged() -> tf.Tensor:
                # Columns and channels as one axis: an innermost axis of three is slow.
                columns = np.repeat(np.arange(width, dtype="int32"), config.in_channels)
                rows = tf.range(height)[:, None]
                is_within = (rows >= top) & (rows < bottom) & ((columns >= left) & (columns < right))
                first, second = tf.unstack(tf.reshape(images, (2, *is_within.shape)))
                both = [tf.where(is_within, second, first), tf.where(is_within, first, second)]
                return tf.reshape(tf.stack(both), images.shape)

            def blended() -> tf.Tensor:
                return images * blend + tf.reverse(images, [0]) * (1 - blend)

            images = tf.ensure_shape(tf.cond(bottom > top, exchanged, blended), images.shape)
            targets = targets * own_fraction + tf.reverse(targets, [0]) * (1 - own_fraction)
        return (images, resize(images)), targets

    return mix


def target_of(label: tf.Tensor, num_classes: int, smoothing: float) -> tf.Tensor:
    """The target of a class, or of a vector of 0 and 1, smoothed as timm.data.mixup.mixup_target does."""
    if label.shape.rank == 1:
        return tf.cast(label, tf.float32) * (1 - smoothing) + 0.5 * smoothing
    rest = smoothing / num_classes
    return tf.one_hot(label, num_classes, on_value=1 - smoothing + rest, off_value=rest)


def _normalise(image: tf.Tensor, channels: int) -> tf.Tensor:
    """As data.preprocessing.normalise, of a picture in colour."""
    height, width, _ = image.shape
    mean, std = np.array(IMAGENET_MEAN, "float32"), np.array(IMAGENET_STD, "float32")
    if channels == 1:
        gray = tf.tensordot(tf.cast(image, tf.float32), np.array(LUMA, "float32"), 1)
        return ((tf.round(gray) / 255.0 - mean.mean()) / std.mean())[..., None]
    values = tf.cast(tf.reshape(image, (height, width * channels)), tf.float32)
    values = values * np.tile(1 / (255 * std), width) - np.tile(mean / std, width)
    return tf.reshape(values, (height, width, channels))
