"""Names under which models are served."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.errors import InvalidValueError


def require_served_name(name: str, *, remedy: str = "use") -> None:
    """Raises InvalidValueError unless a name fits in URLs, file names and Docker.

    Args:
        name: Name of the model.
        remedy: Start of the error's last sentence. Defaults to "use".
    """
    if not re.fullmatch("[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", name):
        raise InvalidValueError(
            f"'{name}' cannot be the name of a served model; {remedy} up to 63 letters, digits, '_', '-' and '.' that "
            "starts and ends with a letter or digit."
        )


def default_served_name(path: str | PathLike) -> str:
    """Returns the name of a model's file without its suffix, or of its folder without the version of a SavedModel."""
    path = Path(path).absolute()
    if path.is_dir():
        return path.parent.name if path.name.isdecimal() else path.name
    return path.stem
