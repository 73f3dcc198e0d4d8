"""Refuses misspelt keywords with the nearest one; Python does that from 3.13 on, and without these remedies."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from keras_crossvit._internal.checks import suggestion
from keras_crossvit._internal.errors import InvalidTypeError

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
# Keywords of the reference, timm and Keras' own models that have another name here.
_KEYWORDS_ELSEWHERE = {
    "norm_layer": "every published model has LayerNorm with epsilon 1e-6; leave it out",
    "pretrained": 'use weights="imagenet"',
    "include_top": "use num_classes=0 for a model without heads",
    "input_shape": "use img_size and in_channels",
}


def require_known_keywords(keywords: Iterable[str], known: Iterable[str], caller: str) -> None:
    """Raises TypeError for an unknown keyword; the message has the nearest known one."""
    known = list(known)
    for keyword in keywords:
        if keyword in known:
            continue
        if keyword in _KEYWORDS_ELSEWHERE:
            raise InvalidTypeError(f"{caller} has no keyword '{keyword}': {_KEYWORDS_ELSEWHERE[keyword]}.")
        raise InvalidTypeError(f"{caller} got an unexpected keyword '{keyword}'; {suggestion(keyword, known)}")


def known_keywords_only(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Decorates a function so that a misspelt keyword is refused with the nearest one."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        require_known_keywords(kwargs, known, f"{function.__name__}()")
        return function(*args, **kwargs)

    return checked


class KnownFieldsOnly:
    """Base of dataclasses whose constructor refuses a misspelt field with the nearest one."""

    def __new__(cls, *args: Any, **fields: Any) -> Any:
        require_known_keywords(fields, [each.name for each in dataclasses.fields(cls)], f"{cls.__name__}()")  # type: ignore[arg-type]
        return super().__new__(cls)
