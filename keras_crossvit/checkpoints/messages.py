"""Other libraries' errors in our one-line messages."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
