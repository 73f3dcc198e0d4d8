"""Reads JSON that was stored earlier, or that someone else wrote: bounded in size, and of a declared form."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from keras_crossvit._internal.errors import InvalidValueError

MAX_BYTES = 64 * 2**20  # class names and shards of a large data set take a hundredth of it
_MAX_SHOWN = 80  # characters of a value in a message
_TOO_LARGE = 2**63  # for any number of ours
_TOO_DEEP = "its brackets are nested too deep"


@dataclasses.dataclass(frozen=True)
class OrNone:
    """A form of `parse_json` that also allows null."""

    form: Any


def read_json(path: Path, form: Any, remedy: str, *, max_bytes: int = MAX_BYTES) -> Any:
    """Returns the content of a JSON file that has a form.

    Args:
        path: The file.
        form: What `parse_json` takes.
        remedy: What to do if the file is damaged, such as "prepare the shards again".
        max_bytes: Size of the largest file that is read. Defaults to 64 MiB.

    Raises:
        InvalidValueError: the file is larger, not JSON, or of another form. The message has the file, the place in it,
            and the remedy.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        return parse_json(content, form, max_bytes=max_bytes)
    except InvalidValueError as error:
        raise InvalidValueError(f"'{path}' is damaged ({error}); {remedy}.") from error


def parse_json(text: str | bytes, form: Any, *, max_bytes: int = MAX_BYTES) -> Any:
    """Returns the value of a JSON text that has a form.

    Args:
        text: The text; bytes are UTF-8.
        form: `str`, `bool`, `int`, or `float`, which allows integers; a list of one form, for a list of any length; a
            tuple of forms, for a list of that length; a mapping from `str` to a form, for a mapping with any keys; any
            other mapping, for one that has these keys and maybe others; `OrNone(form)`; or `Any`.
        max_bytes: Length of the longest text that is parsed. Defaults to 64 MiB.

    Raises:
        InvalidValueError: the text is longer, not JSON, or of another form. The message has the reason only.
    """
    if len(text) > max_bytes:
        raise InvalidValueError(f"it has more than {max_bytes} bytes")
    try:
        value = json.loads(text)
    except RecursionError:
        raise InvalidValueError(_TOO_DEEP) from None
    except ValueError as error:  # also of bytes that are not UTF-8, and of numbers with thousands of digits
        raise InvalidValueError(str(error)[:200]) from None
    try:
        require_form(value, form)
    except RecursionError:  # while a value is shown that was just not too deep to be parsed
        raise InvalidValueError(_TOO_DEEP) from None
    return value


def require_form(value: Any, form: Any, where: str = "it") -> None:
    """Raises `InvalidValueError` if a value that was parsed from JSON does not have a form of `parse_json`."""
    if form is Any or (isinstance(form, OrNone) and value is None):
        return
    if isinstance(form, OrNone):
        require_form(value, form.form, where)
    elif isinstance(form, type):
        is_number = type(value) is int and form in (int, float)
        if not (abs(value) < _TOO_LARGE if is_number else type(value) is form):
            _refuse(value, where)
    elif isinstance(form, Mapping):
        if not isinstance(value, dict):
            _refuse(value, where)
        if form == {str: Any}:
            return
        if str in form:
            for key, each in value.items():
                require_form(each, form[str], f"{where}.{key[:_MAX_SHOWN]}")
        else:
            for key, each in form.items():
                if key not in value:
                    raise InvalidValueError(f"{where.removeprefix('it.')} has no {key}")
                require_form(value[key], each, f"{where}.{key}")
    else:
        if not isinstance(value, list) or (isinstance(form, tuple) and len(value) != len(form)):
            _refuse(value, where)
        forms = form if isinstance(form, tuple) else form * len(value)
        for i, (each, expected) in enumerate(zip(value, forms, strict=True)):
            require_form(each, expected, f"{where}[{i}]")


def _refuse(value: Any, where: str) -> NoReturn:
    raise InvalidValueError(f"{where.removeprefix('it.')} cannot be {repr(value)[:_MAX_SHOWN]}")
