"""Names by which models are served."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.errors import InvalidValueError


def require_served_name(name: str, *, remedy: str = "use") -> None:
    """Raises ValueError unless a model's name fits in URLs, files and manifests.

    Args:
        name: The name.
        remedy: What the message asks for, before it says of what names are made. Defaults to "use".
    """
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name) or not re.search("[A-Za-z0-9]$", name):
        raise InvalidValueError(
            f"'{name}' is no name to serve a model by; {remedy} up to 63 letters, digits, '_', '-' and '.' that begin "
            "and end with a letter or digit."
        )


def name_of(path: str | PathLike) -> str:
    """The name that a model's file or folder suggests: without the suffix, and of a SavedModel without its version."""
    path = Path(path).absolute()
    if path.is_dir():
        return path.parent.name if path.name.isdecimal() else path.name
    return path.stem
