"""The saved state of a training run: its files, its variables and the counters of its callbacks."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from keras_crossvit._internal.errors import FileError, InvalidTypeError, InvalidValueError
from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.stored_json import parse_json
from keras_crossvit.training.distributed import as_value_of

_STATES_KEPT = 2
_SUFFIX = ".safetensors"
_METADATA_KEY = "training_state"


@dataclasses.dataclass(frozen=True, order=True)
class Position:
    """A point in a run.

    Args:
        epoch: Number of finished epochs.
        batch: Number of finished batches of the next epoch.
    """

    epoch: int = 0
    batch: int = 0


class State(NamedTuple):
    """What a state file holds: the position, arrays by name, and JSON values."""

    position: Position
    arrays: dict[str, np.ndarray]
    metadata: dict[str, Any]


class StateFolder:
    """Folder of state files, named by their position. The newest two are kept.

    Args:
        path: The folder. It is created with the first state.
    """

    def __init__(self, path: str | PathLike) -> None:
        self.path = Path(path)
        self.guard: Callable[[], None] = lambda: None  # raises if the folder may not be written to any more

    def files(self) -> list[Path]:
        """Returns the state files, oldest first."""
        return sorted(path for path in self.path.glob(f"epoch-*{_SUFFIX}") if path.is_file())

    def describe_last(self) -> str:
        """Returns a sentence about the last state for an error, without its full stop."""
        files = self.files()
        return f"The last state, '{files[-1]}', is intact" if files else "There is no earlier state"

    def write(self, position: Position, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
        """Writes a state atomically, then removes all but the newest two.

        Raises:
            FileError: the disk is full or the folder cannot be written. The last state is intact.
            OperationError: `guard` finds that the folder belongs to another process now.
        """
        self.guard()
        note = json.dumps({**dataclasses.asdict(position), **metadata})
        content = safetensors.numpy.save(dict(arrays), metadata={_METADATA_KEY: note})
        try:
            with atomic_write(self.path / _file_name(position)) as unfinished:
                unfinished.write_bytes(content)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise FileError(
                error.errno,
                f"The state of the run could not be written to '{self.path}' ({reason}). {self.describe_last()}. Free "
                "some space or grant write permission, and run the same command to resume.",
            ) from error
        for older in self.files()[:-_STATES_KEPT]:
            older.unlink()

    def newest(self, check: Callable[[Position, dict[str, Any]], None] | None = None) -> State | None:
        """Returns the newest intact state, or None if there are no state files.

        Args:
            check: Raises ValueError if position and metadata cannot belong to a state of this run. Such a state is
                skipped like a damaged one. Defaults to None: no check.

        Raises:
            InvalidValueError: no state file can be used.
        """
        reasons = []
        for path in reversed(self.files()):
            try:
                return _read(path, check)
            # AttributeError: NumPy lacks the dtype of a tensor.
            except (SafetensorError, ValueError, AttributeError) as error:
                reasons.append(f"'{path}' is damaged: {error}")
        if reasons:
            raise InvalidValueError(
                f"No state of the run can be read ({'; '.join(reasons)}). Remove '{self.path}' to start over."
            )
        return None


def _file_name(position: Position) -> str:
    return f"epoch-{position.epoch:06d}-batch-{position.batch:08d}{_SUFFIX}"


def _read(path: Path, check: Callable[[Position, dict[str, Any]], None] | None) -> State:
    with safe_open(path, "numpy") as file:
        metadata = parse_json((file.metadata() or {}).get(_METADATA_KEY, ""), {"epoch": int, "batch": int})
        position = Position(metadata.pop("epoch"), metadata.pop("batch"))
        if path.name != _file_name(position):
            raise InvalidValueError("its epoch and batch are not those in its name")
        if check is not None:
            check(position, metadata)
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    return State(position, arrays, metadata)


def run_variables(model: keras.Model) -> dict[str, Any]:
    """Returns all variables that training changes, by name. The teacher of a Distiller is left out."""
    trained = getattr(model, "student", model)
    variables = {**_numbered("model", trained.variables), **_numbered("optimizer", model.optimizer.variables)}
    return variables | metric_variables(model)


def metric_variables(model: keras.Model) -> dict[str, Any]:
    """Returns the variables of the model's metrics, by name."""
    return _numbered("metrics", model.metrics_variables)


def _numbered(owner: str, variables: Sequence[Any]) -> dict[str, Any]:
    # Paths are no keys: Keras numbers layers per process, and metrics of equal names have equal paths.
    return {f"{owner}/{i:05d}": variable for i, variable in enumerate(variables)}


def assign_variables(variables: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Sets variables to the arrays of the same names. Arrays of other owners (model, optimizer, metrics) are ignored.

    Raises:
        InvalidValueError: names, shapes or dtypes differ. No variable has been changed.
    """
    owners = {name.partition("/")[0] for name in variables}
    stored = {name: array for name, array in arrays.items() if name.partition("/")[0] in owners}
    expected = {name: (tuple(each.shape), each.dtype) for name, each in variables.items()}
    found = {name: (array.shape, array.dtype.name) for name, array in stored.items()}
    if expected != found:
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise InvalidValueError(
            f"The saved state belongs to another model or optimizer: {len(differing)} variables differ, the first is "
            f"{differing[0]}. Use the settings of the saved run, or another folder."
        )
    for name, variable in variables.items():
        variable.assign(as_value_of(variable, stored[name]))


Check = Callable[[Any, int], bool]  # of a value, and the number of finished epochs


class StatefulCallback(keras.callbacks.Callback):
    """A callback with attributes that are saved in the state of a run and restored from it.

    Any other callback may have the methods `get_state()`, which returns a dictionary of JSON values, and
    `set_state(state)`, which takes it, and has to check it where state files may come from anyone. In a resumed run it
    is called before the first step, after `on_train_begin` and again after `on_epoch_begin`.

    Attributes:
        saved_attributes: Names of these attributes, each with a check. Their values are JSON values. A check takes a
            value and the number of finished epochs, and returns whether the value is possible. State files may come
            from anyone: every value that passes its check is set. Defaults to none: the callback has no state.
    """

    saved_attributes: ClassVar[Mapping[str, Check]] = {}


def is_epoch_count(value: Any, epochs: int) -> bool:
    """Returns whether a value is an integer from 0 to the number of finished epochs."""
    return type(value) is int and 0 <= value <= epochs


def _is_cooldown(value: Any, epochs: int) -> bool:
    return type(value) is int and 0 <= value < 2**31  # epochs to come, so `epochs` is no limit


def _is_metric(value: Any, epochs: int) -> bool:  # None before the first epoch, and maybe NaN
    return value is None or type(value) is float or (type(value) is int and abs(value) < 2**53)


_KERAS_CALLBACKS: dict[type, Mapping[str, Check]] = {
    keras.callbacks.EarlyStopping: {
        "best": _is_metric,
        "best_epoch": is_epoch_count,
        "stopped_epoch": is_epoch_count,
        "wait": is_epoch_count,
    },
    keras.callbacks.ModelCheckpoint: {"best": _is_metric},
    keras.callbacks.ReduceLROnPlateau: {"best": _is_metric, "cooldown_counter": _is_cooldown, "wait": is_epoch_count},
}


# Keras' callbacks that have nothing to save; others of these two count batches unless they act on epochs only.
_WITHOUT_STATE = {
    keras.callbacks.CSVLogger,
    keras.callbacks.LambdaCallback,
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TerminateOnNaN,
}
_FREQUENCIES = {keras.callbacks.ModelCheckpoint: "save_freq", keras.callbacks.TensorBoard: "update_freq"}


def without_saved_state(callbacks: Sequence[keras.callbacks.Callback]) -> list[str]:
    """Returns the classes of callbacks of which a state does not hold everything that they may count."""

    def is_saved(callback: keras.callbacks.Callback) -> bool:
        if frequency := _FREQUENCIES.get(type(callback)):
            return getattr(callback, frequency) == "epoch"
        known = isinstance(callback, StatefulCallback) or type(callback) in _WITHOUT_STATE
        return known or _has_state(callback)

    return [type(callback).__name__ for callback in callbacks if not is_saved(callback)]


def callback_states(callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, dict[str, Any]]:
    """Returns the saved attributes of callbacks, by a name for each callback.

    Raises:
        InvalidTypeError: `get_state` of a callback does not return a dictionary of JSON values.
    """
    return {name: _state_of(callback) for name, callback in _by_name(callbacks).items()}


def _state_of(callback: Any) -> dict[str, Any]:
    if not _has_methods(callback):
        return {attribute: getattr(callback, attribute) for attribute in _saved_attributes(callback)}
    state = callback.get_state()
    try:
        stored = json.loads(json.dumps(state))
    except (TypeError, ValueError):
        stored = None
    if not isinstance(state, dict) or stored != state:
        raise InvalidTypeError(
            f"get_state() of {type(callback).__name__} returned {str(state)[:100]}; return a dictionary of JSON values."
        )
    return state


def check_callback_states(stored: Any, callbacks: Sequence[keras.callbacks.Callback], epochs: int) -> None:
    """Raises InvalidValueError unless stored values are possible for these callbacks after so many epochs."""
    named = _by_name(callbacks)
    found = sorted(stored) if isinstance(stored, dict) else []
    if not isinstance(stored, dict) or found != sorted(named):
        raise InvalidValueError(
            f"it has values of {', '.join(found)[:200] or 'no callbacks'}, not of {', '.join(sorted(named)) or 'none'}"
        )
    for name, callback in named.items():
        if _has_methods(callback) and isinstance(stored[name], dict):
            continue  # set_state checks it
        checks, values = _saved_attributes(callback), stored[name]
        if not isinstance(values, dict) or values.keys() != checks.keys():
            raise InvalidValueError(f"its values of {name} are not {', '.join(checks)}")
        for attribute, value in values.items():
            if not checks[attribute](value, epochs):
                raise InvalidValueError(f"{attribute} of {name} cannot be {str(value)[:100]} after {epochs} epochs")


def restore_callback_states(
    stored: Mapping[str, Mapping[str, Any]], callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Sets the saved attributes of callbacks from values that have passed `check_callback_states`."""
    for name, callback in _by_name(callbacks).items():
        if name in stored and _has_methods(callback):
            callback.set_state(dict(stored[name]))  # type: ignore[attr-defined]
            continue
        for attribute, value in stored.get(name, {}).items():
            setattr(callback, attribute, value)


def _has_methods(callback: keras.callbacks.Callback) -> bool:
    return all(callable(getattr(callback, method, None)) for method in ("get_state", "set_state"))


def _has_state(callback: keras.callbacks.Callback) -> bool:
    return _has_methods(callback) or bool(_saved_attributes(callback))


def _saved_attributes(callback: keras.callbacks.Callback) -> Mapping[str, Check]:
    if isinstance(callback, StatefulCallback):
        return callback.saved_attributes
    return next((checks for kind, checks in _KERAS_CALLBACKS.items() if isinstance(callback, kind)), {})


def _by_name(callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, keras.callbacks.Callback]:
    """Returns the callbacks that have a state, by their class and a number."""
    named: dict[str, keras.callbacks.Callback] = {}
    for callback in filter(_has_state, callbacks):
        kind = type(callback).__name__
        named[f"{kind}-{sum(name.startswith(f'{kind}-') for name in named)}"] = callback
    return named
