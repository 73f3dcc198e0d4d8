"""Other libraries' errors and lists of names in our one-line messages."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_NAMES_SHOWN = 8


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:_MOST_NAMES_SHOWN])
    return shown if len(names) <= _MOST_NAMES_SHOWN else f"{shown} and {len(names) - _MOST_NAMES_SHOWN} more"
