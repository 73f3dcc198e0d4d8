"""Pictures read from files."""

from __future__ import annotations

from os import PathLike

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


def read_picture(path: str | PathLike) -> np.ndarray:
    """Reads a picture of any format that Pillow knows, upright as its camera noted.

    Args:
        path: The file.

    Returns:
        Array of shape (height, width, 3), uint8.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it holds no whole picture, or one of absurdly many pixels.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, EOFError) as error:
        raise ValueError(f"'{path}' holds no picture that can be read ({error}); convert it to JPEG or PNG.") from error
    except OSError as error:
        if error.errno is not None:  # the file system's own message, such as "No such file or directory"
            raise
        raise ValueError(f"'{path}' holds no whole picture ({error}); fetch it again.") from error
