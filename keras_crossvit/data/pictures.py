"""Pictures read from files."""

from __future__ import annotations

from os import PathLike
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_WHITE = (255, 255, 255)


def read_picture(file: str | PathLike | BinaryIO) -> np.ndarray:
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
        with Image.open(file) as picture:
            if picture.width * picture.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(
                    f"{picture.width} x {picture.height} pixels, more than {Image.MAX_IMAGE_PIXELS:,}"
                )
            return _in_colour(ImageOps.exif_transpose(picture))
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, EOFError) as error:
        raise ValueError(f"{name} holds no picture that can be read ({error}); convert it to JPEG or PNG.") from error
    except OSError as error:
        if error.errno is not None:  # the file system's own message, such as "No such file or directory"
            raise
        raise ValueError(f"{name} holds no whole picture ({error}); fetch it again.") from error


def _in_colour(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):
        # Pillow would cut off at 255, and leave such a picture white.
        values = np.asarray(picture).astype("int64") * 255 // 65535
        return np.repeat(np.clip(values, 0, 255).astype("uint8")[..., None], 3, axis=2)
    if picture.has_transparency_data:
        # Under what is transparent lies any colour, black as a rule.
        picture = picture.convert("RGBA")
        canvas = Image.new("RGBA", picture.size, (*_WHITE, 255))
        picture = Image.alpha_composite(canvas, picture)
    return np.asarray(picture.convert("RGB"))
