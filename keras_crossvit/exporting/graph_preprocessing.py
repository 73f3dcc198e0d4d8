"""Decoding and preprocessing of images as TensorFlow operations, for graphs that run without this package."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.pipeline.mixing import bicubic_resizer
from keras_crossvit.preprocessing.transforms import (
    LUMA,
    RESAMPLE_BYTES_PER_LINE,
    channel_statistics,
    crop_geometry,
    preprocessing_facts,
)

RESIZE_SCOPE = "resize_to_large_patch_image"
_MAX_JOINED = 5  # inputs of a concatenation in XNNPACK
MAX_PIXELS = 89_478_485  # Pillow's default limit against decompression bombs, 256 MiB of color
_TOO_NARROW = "The image is too narrow, so it would be too long after resizing; crop it."
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EXIF_SIGNATURE = b"Exif\0\0"
_EXIF_ORIENTATION = 0x0112
_SEGMENT = 1 << 16  # maximal bytes of a header segment of a JPEG, such as EXIF


def model_inputs(images: tf.Tensor, config: CrossViTConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Normalises cropped images and resizes them to the second input.

    Images have the shape (B, height, width, channels) at `config.image_sizes[0]`, and values 0 to 255 of any dtype.
    """
    mean, std = (np.array(each, "float32") for each in channel_statistics(config.in_channels))
    small_patch_image = (tf.cast(images, "float32") / 255.0 - mean) / std
    return small_patch_image, large_patch_images(small_patch_image, config)


def large_patch_images(small_patch_images: tf.Tensor, config: CrossViTConfig) -> tf.Tensor:
    """Resizes normalised images to the second input, as `kc.layers.BicubicResize` does."""
    with tf.name_scope(RESIZE_SCOPE):
        return bicubic_resizer(config, max_blocks=_MAX_JOINED)(small_patch_images)


def resize_and_crop(images: tf.Tensor, config: CrossViTConfig) -> tf.Tensor:
    """Resizes images by antialiased bicubic interpolation and crops the center, as `preprocess` does.

    Like Pillow, it resizes columns before rows and rounds uint8 values after each. On scikit-learn's two photographs,
    at 240 and at 408 pixels, at most 0.06 % of the values differ from Pillow's, all of them by 1 of 255.

    Images have the shape (B, height, width, channels) and values 0 to 255, uint8 or float32, which stays the dtype.

    Raises:
        tf.errors.InvalidArgumentError: when run on images that `preprocess` refuses as too narrow.
    """
    height, width = config.image_sizes[0]
    crop_fraction = preprocessing_facts(config)["crop_fraction"]
    old_height, old_width = (tf.shape(images, out_type=tf.int64)[axis] for axis in (1, 2))
    new_height, new_width, top, left = crop_geometry(
        old_height, old_width, height, width, crop_fraction, maximum=tf.maximum
    )
    # The memory that Pillow would need. This code needs less, but must refuse the same images.
    needed = [old_height * new_width, new_height * width, RESAMPLE_BYTES_PER_LINE * tf.maximum(new_height, new_width)]
    tf.debugging.assert_less_equal(tf.reduce_max(needed), tf.constant(MAX_PIXELS, tf.int64), _TOO_NARROW)
    # Columns come first, along the axis that ScaleAndTranslate resizes first, which keeps its intermediate floats few.
    turned = _resize_rows(tf.transpose(images, [0, 2, 1, 3]), new_width, left, width)
    resized = _resize_rows(tf.transpose(turned, [0, 2, 1, 3]), new_height, top, height)
    return tf.ensure_shape(resized, (None, height, width, images.shape[-1]))


def to_gray(image: tf.Tensor) -> tf.Tensor:
    """Converts color images, shape (..., 3), uint8, to gray, shape (..., 1), with the rounding of `preprocess`."""
    gray = tf.reduce_sum(tf.cast(image, tf.float32) * np.array(LUMA, "float32"), axis=-1, keepdims=True)
    return tf.cast(tf.round(gray), tf.uint8)


def _resize_rows(images: tf.Tensor, new_height: tf.Tensor, top: tf.Tensor, height: int) -> tf.Tensor:
    """Resizes the rows to `new_height` and crops `height` of them from `top` on."""
    old_height, width = tf.shape(images)[1], tf.shape(images)[2]
    scale = tf.cast(tf.cast(new_height, tf.float64) / tf.cast(old_height, tf.float64), tf.float32)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=images,
        size=tf.stack([height, width]),
        scale=tf.stack([scale, 1.0]),
        translation=tf.stack([-tf.cast(top, tf.float32), 0.0]),
        kernel_type="keyscubic",
        antialias=True,
    )
    return tf.saturate_cast(tf.floor(resized + 0.5), tf.uint8) if images.dtype == tf.uint8 else resized


def count_pixels(contents: tf.Tensor) -> tf.Tensor:
    """Returns the number of pixels that the header of a JPEG or PNG declares, int64; 0 for bytes of another format.

    Raises:
        tf.errors.InvalidArgumentError: when run on a truncated or invalid header.
    """

    def declared_by_png() -> tf.Tensor:
        sides = tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.int32, little_endian=False)
        return tf.reduce_prod(tf.cast(sides, tf.int64))

    def declared_by_jpeg() -> tf.Tensor:
        return tf.reduce_prod(tf.io.extract_jpeg_shape(contents, output_type=tf.int64)[:2])

    is_png = tf.equal(tf.strings.substr(contents, 0, len(_PNG_SIGNATURE)), _PNG_SIGNATURE)
    of_other_formats = tf.cond(is_png, declared_by_png, lambda: tf.zeros((), tf.int64))
    return tf.cond(tf.io.is_jpeg(contents), declared_by_jpeg, lambda: of_other_formats)


def decode_image(contents: tf.Tensor) -> tf.Tensor:
    """Decodes the bytes of a JPEG or PNG, shape (height, width, 3), uint8. Gray becomes color, and transparency white.

    The EXIF orientation of a JPEG is applied, that of a PNG is not.

    Raises:
        tf.errors.InvalidArgumentError: when run on bytes that are not a complete image.
    """
    image = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: _upright(
            tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE"), _exif_orientation(contents)
        ),
        lambda: _decode_png(contents),
    )
    image.set_shape((None, None, 3))
    return image


def _decode_png(contents: tf.Tensor) -> tf.Tensor:
    """Decodes a PNG, with transparency if its color type is a palette (3) or has an alpha channel (4, 6).

    Other types are decoded without, since for one-bit gray TensorFlow makes an alpha channel of 1 instead of 255.
    """
    color_type = tf.io.decode_raw(tf.strings.substr(contents, 25, 1), tf.uint8)[0]
    return tf.cond(
        color_type >= 3,
        lambda: _on_white(tf.io.decode_png(contents, channels=4)),
        lambda: tf.io.decode_png(contents, channels=3),
    )


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """Blends an image of shape (height, width, 4) with white, with the rounding of Pillow's `alpha_composite`."""
    color, alpha = image[..., :3], image[..., 3:]

    def blended() -> tf.Tensor:
        fraction = tf.cast(alpha, tf.int32) * 128
        sums = tf.cast(color, tf.int32) * fraction + 255 * (255 * 128 - fraction) + (128 << 7)
        shifted = tf.bitwise.right_shift(sums, 8) + sums
        return tf.cast(tf.bitwise.right_shift(shifted, 15), tf.uint8)

    return tf.cond(tf.reduce_all(tf.equal(alpha, 255)), lambda: color, blended)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Undoes one of EXIF's eight orientations by a transposition and flips of rows and columns."""
    transposed = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    flipped = [tf.reduce_any(orientation == those) for those in ((3, 4, 7, 8), (2, 3, 6, 7), ())]
    return tf.raw_ops.Reverse(tensor=transposed, dims=tf.stack(flipped))


def _exif_orientation(contents: tf.Tensor) -> tf.Tensor:
    """Returns the EXIF orientation of a JPEG, 1 to 8; 1 if it is missing or invalid."""
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, 0, 2 * _SEGMENT), tf.uint8), tf.int32)
    starts = tf.maximum(tf.size(header) - len(_EXIF_SIGNATURE), 0)
    matches = tf.reduce_all(
        [header[offset : offset + starts] == byte for offset, byte in enumerate(_EXIF_SIGNATURE)], axis=0
    )
    tiff = tf.argmax(matches, output_type=tf.int32) + len(_EXIF_SIGNATURE)
    little_endian = tf.equal(_number(header, tiff, 1, True), ord("I"))
    directory = tiff + _number(header, tiff + 4, 4, little_endian)
    entries = directory + 2 + 12 * tf.range(_number(header, directory, 2, little_endian))
    is_orientation = tf.equal(_number(header, entries, 2, little_endian), _EXIF_ORIENTATION)
    orientation = tf.reduce_sum(tf.where(is_orientation, _number(header, entries + 8, 2, little_endian), 0))
    is_valid = tf.reduce_any(matches) & (orientation >= 1) & (orientation <= 8)
    return tf.where(is_valid, orientation, 1)


def _number(header: tf.Tensor, position: tf.Tensor, size: int, little_endian: tf.Tensor | bool) -> tf.Tensor:
    """Reads integers of `size` bytes at one or more positions; bytes beyond the header are 0."""
    order = tf.where(little_endian, tf.range(size), tf.range(size)[::-1])
    places = position[..., None] + order
    inside = (places >= 0) & (places < tf.size(header))
    values = tf.where(inside, tf.gather(header, tf.where(inside, places, 0)), 0)
    return tf.reduce_sum(values * 256 ** tf.range(size), axis=-1)
