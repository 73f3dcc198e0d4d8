"""From a record to an augmented image and its target, and from two such to a mixed pair."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_crossvit.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, LUMA, default_crop_fraction
from keras_crossvit.pipeline import cropping, erasing
from keras_crossvit.pipeline.augmentation import Augmentation
from keras_crossvit.pipeline.decoding import decode_window
from keras_crossvit.pipeline.rand_augment import DRAWS_PER_OPERATION, rand_augment
from keras_crossvit.pipeline.second_input import bicubic_resizer


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
        picture = cropping.resize(decode_window(contents, record["road"], window), height, width)
        picture = tf.cond(of_crop[-1] < augmentation.horizontal_flip, lambda: tf.reverse(picture, [1]), lambda: picture)
        if operations:
            strengths = tf.random.stateless_normal((operations,), seeds[1])
            drawn = tf.reshape(of_operations, (operations, DRAWS_PER_OPERATION))
            picture = rand_augment(picture, augmentation, drawn, strengths)
        image = _normalise(picture, config.in_channels)
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
            own_share = mixing["shares"][0]
            top, bottom, left, right = tf.unstack(mixing["boxes"][0])
            # Columns and channels as one axis: an innermost axis of three is slow.
            rows, columns = tf.range(height)[:, None], np.repeat(np.arange(width, dtype="int32"), config.in_channels)
            is_exchanged = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
            own = tf.where(is_exchanged, 0.0, mixing["blends"][0])
            first, second = tf.unstack(tf.reshape(images, (2, *own.shape)))
            mixed = tf.stack([first * own + second * (1 - own), second * own + first * (1 - own)])
            images = tf.reshape(mixed, images.shape)
            targets = targets * own_share + targets[::-1] * (1 - own_share)
        return (images, resize(images)), targets

    return mix


def target_of(label: tf.Tensor, num_classes: int, smoothing: float) -> tf.Tensor:
    """The target of a class, or of a vector of 0 and 1, smoothed as timm.data.mixup.mixup_target does."""
    if label.shape.rank == 1:
        return tf.cast(label, tf.float32) * (1 - smoothing) + 0.5 * smoothing
    rest = smoothing / num_classes
    return tf.one_hot(label, num_classes, on_value=1 - smoothing + rest, off_value=rest)


def _normalise(picture: tf.Tensor, channels: int) -> tf.Tensor:
    """As data.preprocessing.normalise, of a picture in colour."""
    height, width, _ = picture.shape
    mean, std = np.array(IMAGENET_MEAN, "float32"), np.array(IMAGENET_STD, "float32")
    if channels == 1:
        gray = tf.tensordot(tf.cast(picture, tf.float32), np.array(LUMA, "float32"), 1)
        return ((tf.round(gray) / 255.0 - mean.mean()) / std.mean())[..., None]
    values = tf.cast(tf.reshape(picture, (height, width * channels)), tf.float32)
    values = (values / 255.0 - np.tile(mean, width)) / np.tile(std, width)
    return tf.reshape(values, (height, width, channels))
