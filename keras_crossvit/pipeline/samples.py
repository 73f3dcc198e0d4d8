"""Makes training images and targets from records."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.pipeline import cropping, erasing
from keras_crossvit.pipeline.augmentation import Augmentation
from keras_crossvit.pipeline.decoding import decode_window
from keras_crossvit.pipeline.rand_augment import DRAWS_PER_OPERATION, rand_augment
from keras_crossvit.preprocessing.transforms import LUMA, channel_statistics, resolve_crop_fraction


@tf.function  # traced once for all epochs, which differ only in the keys
def augment_sample(record: dict, keys: tf.Tensor, config: CrossViTConfig, augmentation: Augmentation) -> tuple:
    """Decodes and augments an image.

    Args:
        record: A record of one image, see `splits`.
        keys: Shape (3,), int64: `stream_key` of the uniform numbers, the normal numbers and the noise.
        config: The model's configuration.
        augmentation: The settings.

    Returns:
        (small-patch image, target): normalized, of shape (height, width, channels), and of shape (num_classes,).
    """
    height, width = config.image_sizes[0]
    seeds = [tf.stack([keys[i], record["sample"]]) for i in range(3)]
    operations = augmentation.rand_augment_ops
    lengths = (cropping.DRAWS, 1, operations * DRAWS_PER_OPERATION, erasing.DRAWS)
    draws = tf.random.stateless_uniform((sum(lengths),), seeds[0])
    crop_draws, flip_draw, operation_draws, erasing_draws = tf.split(draws, lengths)

    size = record["height"], record["width"]
    if augmentation.crop_scale is None:
        window = cropping.center_window(*size, (height, width), resolve_crop_fraction(None, height, width))
    else:
        window = cropping.random_window(augmentation, *size, crop_draws)
    contents = tf.io.read_file(record["path"]) if "path" in record else record["contents"]
    pixels = decode_window(contents, record["decoder"], window)

    def edit(pixels: np.ndarray, is_flipped: bool, draws: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        # Pillow takes half the time of TensorFlow's operations, and releases Python's lock.
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_flipped else image
        return np.asarray(rand_augment(image, augmentation, draws, strengths))

    is_flipped = flip_draw[0] < augmentation.horizontal_flip
    operation_draws = tf.reshape(operation_draws, (operations, DRAWS_PER_OPERATION))
    strengths = tf.random.stateless_normal((operations,), seeds[1])
    edited = tf.numpy_function(edit, [pixels, is_flipped, operation_draws, strengths], tf.uint8, stateful=False)
    image = _normalize(tf.ensure_shape(edited, (height, width, 3)), config.in_channels)
    if augmentation.erasing:
        image = erasing.erase(image, augmentation.erasing, erasing_draws, seeds[2])
    return image, smoothed_target(record["label"], config.num_classes, augmentation.label_smoothing)


def smoothed_target(label: tf.Tensor, num_classes: int, smoothing: float) -> tf.Tensor:
    """Returns the target of a class, or of a vector of 0 and 1, smoothed as in timm.data.mixup.mixup_target."""
    if label.shape.rank == 1:
        return tf.cast(label, tf.float32) * (1 - smoothing) + 0.5 * smoothing
    rest = smoothing / num_classes
    return tf.one_hot(label, num_classes, on_value=1 - smoothing + rest, off_value=rest)


def _normalize(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Normalizes an RGB image as `preprocessing.transforms.normalize` does, after grayscale for one channel."""
    height, width, _ = image.shape
    mean, std = (np.array(each, "float32") for each in channel_statistics(channels))
    if channels == 1:
        gray = tf.tensordot(tf.cast(image, tf.float32), np.array(LUMA, "float32"), 1)
        return (tf.round(gray)[..., None] / 255.0 - mean) / std
    values = tf.cast(tf.reshape(image, (height, width * channels)), tf.float32)  # broadcasting over three is slow
    values = values * np.tile(1 / (255 * std), width) - np.tile(mean / std, width)
    return tf.reshape(values, (height, width, channels))
