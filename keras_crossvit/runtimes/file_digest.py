"""The SHA-256 that an exported file has of itself: damage is found before a runtime's library reads the file.

The libraries compute with whatever weights a damaged file holds, and LiteRT crashes on some. Whoever damages a file on
purpose can write another digest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.runtimes.metadata import METADATA_KEY

DIGEST_KEY = f"{METADATA_KEY}_sha256"
_MARK, _LENGTH = f"{DIGEST_KEY}=".encode(), 64
_BLANK = b"0" * _LENGTH
BLANK_DIGEST = (_MARK + _BLANK).decode()  # what a writer stores under `DIGEST_KEY` in the metadata of any format


def write_digest(path: Path) -> None:
    """Replaces the blank digest in a file by the SHA-256 of the file with the blank one."""
    content = path.read_bytes()
    before, _, after = content.partition(BLANK_DIGEST.encode())
    digest = hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(b"".join([before, _MARK, digest, after]))


def require_undamaged(path: Path) -> None:
    """Raises InvalidValueError if a file has a digest, which earlier versions did not write, and it differs."""
    content = path.read_bytes()
    start = content.find(_MARK) + len(_MARK)
    if start < len(_MARK):
        return
    end = start + _LENGTH
    digest = hashlib.sha256(memoryview(content)[:start])
    digest.update(_BLANK)
    digest.update(memoryview(content)[end:])
    if digest.hexdigest().encode() != content[start:end]:
        raise InvalidValueError(
            f"'{path}' is not a complete file, or was changed: its SHA-256 is not the one that it contains. Copy it or "
            f"export the model again; if a tool of yours has changed it, remove {DIGEST_KEY} from its metadata."
        )
