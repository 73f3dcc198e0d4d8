"""Checks of values that several subpackages share."""

from __future__ import annotations

import difflib
import operator
import os
from collections.abc import Collection, Iterable
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError


def require_integer(label: str, value: Any, *, minimum: int, maximum: float | None = None) -> int:
    """Returns `value` as an int; raises `InvalidValueError` unless it is an integer from `minimum` to `maximum`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        integer = operator.index(value)
    except TypeError:
        raise InvalidValueError(
            f"{label} {shown_value(value)} is not an integer; use one of at least {minimum}."
        ) from None
    if integer < minimum:
        raise InvalidValueError(f"{label} {_shown(integer)} is too small; use an integer of at least {minimum}.")
    if maximum is not None and integer > maximum:
        raise InvalidValueError(f"{label} {_shown(integer)} is too large; use at most {maximum:.0f}.")
    return integer


def _shown(number: float) -> str:
    """Returns a number for a message; Python writes no integer of thousands of digits, and none in the format `g`."""
    try:
        return str(number) if isinstance(number, int) and abs(number) < 10**20 else f"{number:g}"
    except OverflowError:
        return f"of {int(number).bit_length()} bits"


def shown_value(value: Any) -> str:
    """Returns a value of any type for a message; Python writes no integer of thousands of digits, also in a list."""
    try:
        return repr(value)
    except ValueError:
        return "with an integer of thousands of digits"


def require_at_most(maximum: float, **values: float | None) -> None:
    """Raises `InvalidValueError` if a value, which is named by its keyword, is above the maximum."""
    for label, value in values.items():
        if value is not None and value > maximum:
            raise InvalidValueError(f"{label} {_shown(value)} is above {maximum:g}; use at most {maximum:g}.")


def require_number(label: str, value: Any) -> float:
    """Returns `value` as a float; raises `InvalidValueError` unless it is a finite number."""
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        number = float(value)
    except OverflowError:
        raise InvalidValueError(f"{label} {_shown(value)} is too large; use at most 1e308.") from None
    except (TypeError, ValueError):
        raise InvalidValueError(f"{label} {shown_value(value)} is not a number; use an int or a float.") from None
    if number - number != 0.0:
        raise InvalidValueError(f"{label} {number} is not finite; use a finite number.")
    return number


def require_positive(label: str, value: Any) -> float:
    """Returns `value` as a float; raises `InvalidValueError` unless it is above 0."""
    number = require_number(label, value)
    if number <= 0:
        raise InvalidValueError(f"{label} {number:g} is not positive; use a number above 0.")
    return number


def require_boolean(label: str, value: Any) -> bool:
    """Returns `value`; raises `InvalidValueError` unless it is True or False."""
    if value is True or value is False:
        return value
    raise InvalidValueError(f"{label} {shown_value(value)} is not a boolean; use True or False.")


def require_rate(label: str, value: Any) -> float:
    """Returns `value` as a float; raises `InvalidValueError` unless 0 <= value < 1."""
    rate = require_number(label, value)
    if not 0.0 <= rate < 1.0:
        raise InvalidValueError(f"{label} {rate:g} is outside 0 <= rate < 1; use 0 to switch it off, or less than 1.")
    return rate


def require_known(kind: str, name: str, known: Collection[str]) -> None:
    """Raises `InvalidValueError` with the nearest known name unless `name` is known."""
    if name not in known:
        raise InvalidValueError(f"There is no {kind} '{name}'; {suggestion(name, known)}")


def suggestion(name: str, known: Collection[str]) -> str:
    """Returns a question with the nearest known name, or the list of known names."""
    found = nearest(name, known)
    return f"did you mean '{found}'?" if found else f"known are {', '.join(known)}."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name most similar to an unknown one, or None if none is similar."""
    return next(iter(difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)), None)


def one_class_error(activation: str) -> InvalidValueError:
    """Returns the error for an activation that is constant if there is one class."""
    return InvalidValueError(
        f"num_classes is 1 and classifier_activation is {activation!r}, which gives the same value for every image. "
        "Use 'sigmoid', or num_classes=2."
    )


def resolve_threads(threads: int | None) -> int:
    """Returns the number of threads, by default one per processor that this process may use."""
    if threads is not None:
        return require_integer("threads", threads, minimum=1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_heads_divide(label: str, embed_dim: int, num_heads: int) -> None:
    """Raises `InvalidValueError` unless num_heads divides embed_dim."""
    if embed_dim % num_heads:
        lower, upper = neighbouring_multiples(embed_dim, num_heads)
        raise InvalidValueError(
            f"{label} {embed_dim} is not divisible by num_heads {num_heads}; "
            f"use an embed_dim of {lower} or {upper}, or another number of heads."
        )


def require_patches_tile(label: str, size: int, patch_size: int) -> None:
    """Raises `InvalidValueError` unless patch_size divides the side of an image."""
    if size % patch_size:
        lower, upper = neighbouring_multiples(size, patch_size)
        raise InvalidValueError(f"{label} {size} is not a multiple of patch_size {patch_size}; use {lower} or {upper}.")


def neighbouring_multiples(value: int, step: int) -> tuple[int, int]:
    """Returns the multiples of `step` below and above `value`, or its first two multiples."""
    lower = max(step, value // step * step)
    return lower, lower + step
