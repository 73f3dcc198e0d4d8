"""Makes a training image and its target from a record: decode, crop, flip, RandAugment, normalize, erase."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.pipeline.augmentation import Augmentation
from keras_crossvit.pipeline.decoding import decode_window
from keras_crossvit.pipeline.rand_augment import DRAWS_PER_OPERATION, rand_augment
from keras_crossvit.preprocessing.transforms import LUMA, channel_statistics, resolve_crop_fraction

_ATTEMPTS = 10  # to find a crop, or a rectangle to erase, that fits
CROP_DRAWS = 2 * _ATTEMPTS + 2  # uniform random numbers: ten areas, ten ratios, top, left
ERASING_DRAWS = 1 + CROP_DRAWS  # whether, and the same
_MIN_ERASED_AREA, _MAX_ERASED_AREA, _MIN_ERASED_RATIO = 0.02, 1 / 3, 0.3


@tf.function(autograph=False)  # traced once for all epochs, which differ only in the keys
def augment_sample(record: dict, keys: tf.Tensor, config: CrossViTConfig, augmentation: Augmentation) -> tuple:
    """Returns the normalized small-patch image (height, width, channels) and the target (num_classes,) of a record.

    `keys`, shape (3,), int64, are the `stream_key` of the uniform numbers, the normal numbers and the noise.
    """
    height, width = config.image_sizes[0]
    seeds = [tf.stack([keys[i], record["sample"]]) for i in range(3)]
    operations = augmentation.rand_augment_ops
    lengths = (CROP_DRAWS, 1, operations * DRAWS_PER_OPERATION, ERASING_DRAWS)
    draws = tf.random.stateless_uniform((sum(lengths),), seeds[0])
    crop_draws, flip_draw, operation_draws, erasing_draws = tf.split(draws, lengths)

    size = record["height"], record["width"]
    if augmentation.crop_scale is None:
        window = center_window(*size, (height, width), resolve_crop_fraction(None, height, width))
    else:
        window = random_window(augmentation, *size, crop_draws)
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
        image = erase(image, augmentation.erasing, erasing_draws, seeds[2])
    return image, smoothed_target(record["label"], config.num_classes, augmentation.label_smoothing)


def random_window(augmentation: Augmentation, height: tf.Tensor, width: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Returns top, left, height and width of a random crop of an image, int32, at least one pixel.

    It is the first of ten random areas and ratios that fits, or the largest centered window of an allowed ratio.
    Source: timm.data.transforms.RandomResizedCropAndInterpolation.get_params.
    """
    (low, high), ratio_range = augmentation.crop_scale or (1.0, 1.0), augmentation.crop_ratio
    areas = (low + (high - low) * draws[:_ATTEMPTS]) * (tf.cast(height, tf.float32) * tf.cast(width, tf.float32))
    log_low, log_high = map(math.log, ratio_range)
    ratios = tf.exp(log_low + (log_high - log_low) * draws[_ATTEMPTS : 2 * _ATTEMPTS])
    widths, heights = (_round(tf.sqrt(each)) for each in (areas * ratios, areas / ratios))
    fits = (widths <= width) & (heights <= height)
    first = tf.argmax(fits)

    def first_that_fits() -> tf.Tensor:
        size = tf.stack([heights[first], widths[first]])
        space = tf.cast(tf.stack([height, width]) - size + 1, tf.float32)
        return tf.concat([tf.cast(draws[2 * _ATTEMPTS :] * space, tf.int32), size], axis=0)

    return tf.cond(fits[first], first_that_fits, lambda: _largest_window(height, width, *ratio_range))


def center_window(height: tf.Tensor, width: tf.Tensor, target: tuple[int, int], crop_fraction: float) -> tf.Tensor:
    """Returns the centered window with the ratio of `target` (height, width), `crop_fraction` of the tighter side."""
    window = tf.cast(_largest_window(height, width, target[1] / target[0], target[1] / target[0]), tf.float32)
    return _centered(height, width, _round(window[2:] * crop_fraction))


def _largest_window(height: tf.Tensor, width: tf.Tensor, min_ratio: float, max_ratio: float) -> tf.Tensor:
    cropped_width = tf.minimum(width, _round(tf.cast(height, tf.float32) * max_ratio))
    cropped_height = tf.minimum(height, _round(tf.cast(width, tf.float32) / min_ratio))
    return _centered(height, width, tf.stack([cropped_height, cropped_width]))


def _centered(height: tf.Tensor, width: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.concat([(tf.stack([height, width]) - size) // 2, size], axis=0)


def _round(length: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.cast(tf.round(length), tf.int32), 1)


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


def erase(image: tf.Tensor, probability: float, draws: tf.Tensor, noise_seed: tf.Tensor) -> tf.Tensor:
    """Replaces a rectangle of a normalized image by normal noise, one value per pixel and channel.

    Source: timm.data.random_erasing.RandomErasing in mode "pixel", with its defaults.
    """
    box, fits = erased_rectangle(image.shape[0], image.shape[1], draws[1:])

    def erased() -> tf.Tensor:
        top, left, height, width = tf.unstack(box)
        noise = tf.random.stateless_normal((height, width, image.shape[2]), noise_seed)
        rows = image[top : top + height]
        rows = tf.concat([rows[:, :left], noise, rows[:, left + width :]], axis=1)
        return tf.concat([image[:top], rows, image[top + height :]], axis=0)

    return tf.ensure_shape(tf.cond(fits & (draws[0] <= probability), erased, lambda: image), image.shape)


def erased_rectangle(height: int, width: int, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns top, left, height and width of the first of ten rectangles that fits, and whether one does."""
    areas = (_MIN_ERASED_AREA + (_MAX_ERASED_AREA - _MIN_ERASED_AREA) * draws[:_ATTEMPTS]) * height * width
    ratios = tf.exp(math.log(_MIN_ERASED_RATIO) * (1 - 2 * draws[_ATTEMPTS : 2 * _ATTEMPTS]))
    sizes = tf.cast(tf.round(tf.sqrt(tf.stack([areas * ratios, areas / ratios], axis=1))), tf.int32)
    fits = tf.reduce_all(sizes < (height, width), axis=1)
    size = sizes[tf.argmax(fits)]
    space = tf.cast((height, width) - size + 1, tf.float32)
    corner = tf.cast(draws[2 * _ATTEMPTS :] * tf.maximum(space, 0.0), tf.int32)
    return tf.concat([corner, size], axis=0), tf.reduce_any(fits)


def smoothed_target(label: tf.Tensor, num_classes: int, smoothing: float) -> tf.Tensor:
    """Returns the target of a class, or of a vector of 0 and 1, smoothed as in timm.data.mixup.mixup_target."""
    if label.shape.rank == 1:
        return tf.cast(label, tf.float32) * (1 - smoothing) + 0.5 * smoothing
    rest = smoothing / num_classes
    return tf.one_hot(label, num_classes, on_value=1 - smoothing + rest, off_value=rest)
