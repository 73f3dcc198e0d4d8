"""Reads image files into arrays."""

from __future__ import annotations

import math
from os import PathLike
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.image_files import FORMATS, open_image, read_image_file

_WHITE = (255, 255, 255, 255)
# Turns an image of each EXIF orientation upright; orientation 1 is upright.
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(file: str | PathLike[str] | BinaryIO, *, formats: tuple[str, ...] | None = None) -> np.ndarray:
    """Reads an AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF or WebP image as 8-bit RGB.

    The EXIF orientation is applied, transparent pixels are laid on white, 16-bit and 32-bit grayscale is scaled to
    8 bits, and of an animation the first frame is read.

    Args:
        file: Path of a regular file of at most 256 MiB, or a binary stream with the file's contents.
        formats: Names of the formats to read, such as "PNG". Defaults to None: all of these.

    Returns:
        Array of shape (height, width, 3), uint8.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: the file is a pipe, device or folder, or too large; it is not a complete image of one of these
            formats; or it has more pixels than `max_pixels()`.
    """
    contents = read_image_file(file) if isinstance(file, (str, PathLike)) else file
    try:
        with open_image(contents, formats) as image:
            if image.width * image.height > max_pixels():
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels, more than {max_pixels():,}")
            image.load()  # before EXIF, which may follow the pixels
            orientation = orientation_of(image)
            return to_rgb(image if orientation == 1 else image.transpose(_TRANSPOSITIONS[orientation]))
    except Exception as error:  # Pillow's readers raise anything on damaged files
        if isinstance(error, OSError) and error.errno is not None:  # from the file system
            raise
        name = f"'{file}'" if isinstance(file, (str, PathLike)) else "the stream"
        unknown = isinstance(error, UnidentifiedImageError)
        reason = f"not of the formats {', '.join(FORMATS)}" if unknown else str(error) or type(error).__name__
        raise InvalidValueError(f"{name} is not a readable image ({reason}); replace it by a JPEG or PNG.") from error


def max_pixels() -> float:
    """Returns the largest number of pixels that is read: Pillow's `MAX_IMAGE_PIXELS`, or infinity if that is None."""
    return math.inf if Image.MAX_IMAGE_PIXELS is None else Image.MAX_IMAGE_PIXELS


def to_rgb(image: Image.Image) -> np.ndarray:
    """Returns a Pillow image of any mode as an array of shape (height, width, 3), uint8."""
    if image.mode.startswith("I"):  # 16 or 32 bits, which Pillow would clip at 255 instead of scaling them
        values = np.asarray(image).astype("int64") * 255 // 65535
        return np.repeat(np.clip(values, 0, 255).astype("uint8")[..., None], 3, axis=2)
    if image.has_transparency_data:  # transparent pixels have any color, usually black
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)
    return np.asarray(image.convert("RGB"))


def orientation_of(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 (upright) to 8; 1 where it is missing or invalid.

    `ImageOps.exif_transpose` raises on invalid EXIF data, and rewrites valid data, which also fails on some files.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow's EXIF reader raises anything on damaged data
        return 1
    return orientation if orientation in _TRANSPOSITIONS else 1
