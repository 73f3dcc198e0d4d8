"""Pictures read from files."""

from __future__ import annotations

from os import PathLike
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


def read_picture(path: str | PathLike | BinaryIO, *, label: str | None = None) -> np.ndarray:
    """Reads a picture of any format that Pillow knows, upright as its camera noted.

    Args:
        path: The file, by its path or opened.
        label: What messages call it. Defaults to None: the path.

    Returns:
        Array of shape (height, width, 3), uint8.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it holds no whole picture, or one of absurdly many pixels.
    """
    label = label or path
    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"'{label}' holds no picture of a known format; convert it to JPEG or PNG.") from error
    except (Image.DecompressionBombError, SyntaxError, EOFError) as error:
        raise ValueError(
            f"'{label}' holds no picture that can be read ({error}); convert it to JPEG or PNG."
        ) from error
    except OSError as error:
        if error.errno is not None:  # the file system's own message, such as "No such file or directory"
            raise
        raise ValueError(f"'{label}' holds no whole picture ({error}); fetch it again.") from error
