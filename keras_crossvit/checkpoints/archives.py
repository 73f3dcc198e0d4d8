"""Refuses zip files that are far larger when they are unpacked, before anything reads them."""

from __future__ import annotations

import zipfile

from keras_crossvit._internal.errors import InvalidValueError

_MAX_RATIO = 100  # of weights that were compressed; those that were trained do not get half as small
_ALWAYS_ALLOWED = 64 * 2**20


def require_moderate_size(archive: zipfile.ZipFile) -> None:
    """Raises `InvalidValueError` if a zip file is more than 100 times as large when it is unpacked."""
    members = archive.infolist()
    size, stored = (sum(getattr(each, field) for each in members) for field in ("file_size", "compress_size"))
    if size > max(_ALWAYS_ALLOWED, _MAX_RATIO * stored):
        raise InvalidValueError(f"its {stored:,} bytes would be {size:,} when they are unpacked")
