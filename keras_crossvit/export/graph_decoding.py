"""JPEG and PNG bytes into upright pictures, by TensorFlow operations alone."""

from __future__ import annotations

import tensorflow as tf

# Where Pillow begins to warn of a decompression bomb: 256 MiB of colour.
MOST_PIXELS = 89_478_485
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EXIF_SIGNATURE = b"Exif\0\0"
_EXIF_ORIENTATION = 0x0112
_SEGMENT = 1 << 16  # bytes of a JPEG's longest header segment, in which EXIF lies


def count_pixels(contents: tf.Tensor) -> tf.Tensor:
    """Pixels that the header of a JPEG or PNG declares, before anything is decoded.

    Args:
        contents: Scalar string, the bytes of a file.

    Returns:
        Scalar int64; 0 for bytes of another format.

    Raises:
        tf.errors.InvalidArgumentError: when run on a header that breaks off or makes no sense.
    """

    def declared_by_png() -> tf.Tensor:
        sides = tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.int32, little_endian=False)
        return tf.reduce_prod(tf.cast(sides, tf.int64))

    def declared_by_jpeg() -> tf.Tensor:
        return tf.reduce_prod(tf.io.extract_jpeg_shape(contents, output_type=tf.int64)[:2])

    is_png = tf.equal(tf.strings.substr(contents, 0, len(_PNG_SIGNATURE)), _PNG_SIGNATURE)
    of_other_formats = tf.cond(is_png, declared_by_png, lambda: tf.zeros((), tf.int64))
    return tf.cond(tf.io.is_jpeg(contents), declared_by_jpeg, lambda: of_other_formats)


def decode_picture(contents: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG or PNG, upright as its camera noted.

    Gray becomes colour, and what is transparent white. A JPEG's orientation in EXIF is followed, a PNG's is not.

    Args:
        contents: Scalar string, the bytes of a file.

    Returns:
        Shape (height, width, 3), uint8.

    Raises:
        tf.errors.InvalidArgumentError: when run on bytes that are no whole picture.
    """
    picture = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: _upright(
            tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE"), _exif_orientation(contents)
        ),
        lambda: _decode_png(contents),
    )
    picture.set_shape((None, None, 3))
    return picture


def _decode_png(contents: tf.Tensor) -> tf.Tensor:
    """Decodes a PNG with its transparency where its colour type is a palette (3) or has an alpha channel (4, 6).

    Of one-bit gray TensorFlow makes an alpha channel of 1 in place of 255, so others are decoded without.
    """
    colour_type = tf.io.decode_raw(tf.strings.substr(contents, 25, 1), tf.uint8)[0]
    return tf.cond(
        colour_type >= 3,
        lambda: _on_white(tf.io.decode_png(contents, channels=4)),
        lambda: tf.io.decode_png(contents, channels=3),
    )


def _on_white(picture: tf.Tensor) -> tf.Tensor:
    """Lays a picture of shape (height, width, 4) on white, with the rounding of Pillow's `alpha_composite`."""
    colour, alpha = picture[..., :3], picture[..., 3:]

    def blended() -> tf.Tensor:
        share = tf.cast(alpha, tf.int32) * 128
        sums = tf.cast(colour, tf.int32) * share + 255 * (255 * 128 - share) + (128 << 7)
        shifted = tf.bitwise.right_shift(sums, 8) + sums
        return tf.cast(tf.bitwise.right_shift(shifted, 15), tf.uint8)

    return tf.cond(tf.reduce_all(tf.equal(alpha, 255)), lambda: colour, blended)


def _upright(picture: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Undoes one of the eight orientations of EXIF: a transposition, then mirrorings of rows and columns."""
    transposed = tf.cond(orientation >= 5, lambda: tf.transpose(picture, [1, 0, 2]), lambda: picture)
    mirrored = [tf.reduce_any(orientation == those) for those in ((3, 4, 7, 8), (2, 3, 6, 7), ())]
    return tf.raw_ops.Reverse(tensor=transposed, dims=tf.stack(mirrored))


def _exif_orientation(contents: tf.Tensor) -> tf.Tensor:
    """The orientation that a JPEG's EXIF notes, 1 to 8; 1 where there is none, or none that makes sense."""
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
    makes_sense = tf.reduce_any(matches) & (orientation >= 1) & (orientation <= 8)
    return tf.where(makes_sense, orientation, 1)


def _number(header: tf.Tensor, position: tf.Tensor, size: int, little_endian: tf.Tensor | bool) -> tf.Tensor:
    """Numbers of `size` bytes at one or more positions; bytes beyond the header count as 0."""
    order = tf.where(little_endian, tf.range(size), tf.range(size)[::-1])
    places = position[..., None] + order
    inside = (places >= 0) & (places < tf.size(header))
    values = tf.where(inside, tf.gather(header, tf.where(inside, places, 0)), 0)
    return tf.reduce_sum(values * 256 ** tf.range(size), axis=-1)
