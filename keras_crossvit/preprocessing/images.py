"""Pictures read from files."""

from __future__ import annotations

import math
from os import PathLike
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from keras_crossvit._internal.errors import InvalidValueError

_WHITE = (255, 255, 255)
# What undoes each orientation of EXIF; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(file: str | PathLike | BinaryIO) -> np.ndarray:
    """Reads a picture of any format that Pillow knows, upright as its camera noted, on white where it is transparent.

    Of an animation it takes the first picture; values of 16 bits and of 32 bits as PNG holds them are scaled to 8.

    Args:
        file: The file, or its contents as a binary stream.

    Returns:
        Array of shape (height, width, 3), uint8.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it holds no whole picture, or one of absurdly many pixels.
    """
    name = f"'{file}'" if isinstance(file, (str, PathLike)) else "the stream"
    try:
        with Image.open(file) as image:
            if image.width * image.height > max_pixels():
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels, more than {max_pixels():,}")
            image.load()  # before EXIF, which may stand behind the pixels
            return to_rgb(_upright(image))
    except UnidentifiedImageError as error:
        raise InvalidValueError(
            f"{name} holds no picture that can be read (no known format); convert it to JPEG or PNG."
        ) from error
    except OSError as error:
        if error.errno is not None:  # the file system's own message, such as "No such file or directory"
            raise
        raise InvalidValueError(f"{name} holds no whole picture ({error}); fetch it again.") from error
    except Exception as error:  # damaged bytes make a format's reader fail in any way
        reason = str(error) or type(error).__name__
        raise InvalidValueError(
            f"{name} holds no picture that can be read ({reason}); convert it to JPEG or PNG."
        ) from error


def max_pixels() -> float:
    """How many pixels count as absurdly many: more than Pillow's `MAX_IMAGE_PIXELS`, which is None where none are."""
    return math.inf if Image.MAX_IMAGE_PIXELS is None else Image.MAX_IMAGE_PIXELS


def to_rgb(image: Image.Image) -> np.ndarray:
    """A picture of any of Pillow's modes as an array of shape (height, width, 3), uint8, as `read_image` makes it."""
    if image.mode.startswith("I"):
        # Pillow would cut off at 255, and leave such a picture white.
        values = np.asarray(image).astype("int64") * 255 // 65535
        return np.repeat(np.clip(values, 0, 255).astype("uint8")[..., None], 3, axis=2)
    if image.has_transparency_data:
        # Under what is transparent lies any colour, black as a rule.
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, (*_WHITE, 255))
        image = Image.alpha_composite(canvas, image)
    return np.asarray(image.convert("RGB"))


def orientation_of(image: Image.Image) -> int:
    """How a camera noted that it was held, 1 (upright) to 8 of EXIF; 1 where there is no note or it makes no sense.

    `ImageOps.exif_transpose` fails on such notes, and writes all the others anew, which fails on some.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF makes its reader fail in any way
        return 1
    return orientation if orientation in _TURNS else 1


def _upright(image: Image.Image) -> Image.Image:
    orientation = orientation_of(image)
    return image if orientation == 1 else image.transpose(_TURNS[orientation])
