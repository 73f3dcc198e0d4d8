"""What callbacks carry through an interrupted run: declared names, each with a check of what a state says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras

from keras_crossvit._internal.errors import InvalidValueError

Check = Callable[[Any, int], bool]  # of a value and the epochs that are behind


class CarryingCallback(keras.callbacks.Callback):
    """A callback some attributes of which belong to the state of a run.

    Attributes:
        carries: Names of these attributes. Their values are JSON values; the check is a function of such a value and
            the number of epochs that are behind, and returns whether the value can be one of this callback's. A state
            is a file that anyone may have written: what a check lets pass is believed.
    """

    carries: ClassVar[Mapping[str, Check]] = {}


def is_count(value: Any, epochs: int) -> bool:
    """Whether a value is a whole number of epochs that are behind."""
    return type(value) is int and 0 <= value <= epochs


def _is_cooldown(value: Any, epochs: int) -> bool:
    return type(value) is int and 0 <= value < 2**31  # epochs that are ahead


def _is_figure(value: Any, epochs: int) -> bool:
    """Whether a value is a metric's, which may be NaN, or None, where there has been no epoch."""
    return value is None or type(value) is float or (type(value) is int and abs(value) < 2**53)


_BY_KERAS: dict[type, Mapping[str, Check]] = {
    keras.callbacks.EarlyStopping: {
        "best": _is_figure,
        "best_epoch": is_count,
        "stopped_epoch": is_count,
        "wait": is_count,
    },
    keras.callbacks.ModelCheckpoint: {"best": _is_figure},
    keras.callbacks.ReduceLROnPlateau: {"best": _is_figure, "cooldown_counter": _is_cooldown, "wait": is_count},
}


def carried_values(callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, dict[str, Any]]:
    """What the callbacks carry, by a name for each and the attribute's."""
    return {
        name: {attribute: getattr(callback, attribute) for attribute in _carries(callback)}
        for name, callback in _by_name(callbacks).items()
    }


def require_carried(stored: Any, callbacks: Sequence[keras.callbacks.Callback], epochs: int) -> None:
    """Raises ValueError unless a state's values are those that these callbacks carry after so many epochs."""
    named = _by_name(callbacks)
    # Earlier versions have noted callbacks of which nothing is carried, too.
    found = sorted(name for name, values in stored.items() if values != {}) if isinstance(stored, dict) else []
    if found != sorted(named):
        raise InvalidValueError(
            f"it has the counts of {', '.join(found)[:200] or 'no callbacks'} where the run has "
            f"{', '.join(sorted(named)) or 'none to count'}"
        )
    for name, callback in named.items():
        checks, values = _carries(callback), stored[name]
        if not isinstance(values, dict) or values.keys() != checks.keys():
            raise InvalidValueError(f"its counts of {name} are not just {', '.join(checks)}")
        for attribute, value in values.items():
            if not checks[attribute](value, epochs):
                raise InvalidValueError(f"{attribute} of {name} cannot be {str(value)[:100]} after {epochs} epochs")


def put_back(stored: Mapping[str, Mapping[str, Any]], callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Sets what the callbacks carry; `stored` is of `carried_values` or has passed `require_carried`."""
    for name, callback in _by_name(callbacks).items():
        for attribute in _carries(callback) if name in stored else ():
            setattr(callback, attribute, stored[name][attribute])


def _carries(callback: keras.callbacks.Callback) -> Mapping[str, Check]:
    if isinstance(callback, CarryingCallback):
        return callback.carries
    return next((checks for kind, checks in _BY_KERAS.items() if isinstance(callback, kind)), {})


def _by_name(callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, keras.callbacks.Callback]:
    """The callbacks that carry something, by their class and a number."""
    named: dict[str, keras.callbacks.Callback] = {}
    for callback in callbacks:
        if _carries(callback):
            kind = type(callback).__name__
            named[f"{kind}-{sum(name.startswith(f'{kind}-') for name in named)}"] = callback
    return named
