"""The state of a training run in files, each written whole or not at all; the newest two are kept."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from keras_crossvit._internal.errors import FileError, InvalidValueError
from keras_crossvit._internal.files import atomic_write, remove_unfinished
from keras_crossvit.training.distributed import as_value_of


def run_variables(model: keras.Model) -> dict[str, Any]:
    """All variables that a run changes, by a name that says where each belongs.

    The teacher of a `keras.distillation.Distiller` never changes and is left out.
    """
    trained = getattr(model, "student", model)
    named = dict(_named("model", trained.variables))
    named.update(_named("optimizer", model.optimizer.variables))
    return {**named, **metric_variables(model)}


def metric_variables(model: keras.Model) -> dict[str, Any]:
    """Those of them that belong to its metrics."""
    return dict(_named("metrics", model.metrics_variables))


def _named(owner: str, variables: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    # Numbered, since paths repeat: Keras numbers layers per process, and metrics have equal names in theirs.
    return ((f"{owner}/{i:05d}", variable) for i, variable in enumerate(variables))


def assign_variables(variables: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Sets variables from arrays of the same names; those of other owners are left alone.

    Raises:
        ValueError: names, shapes or dtypes differ; nothing has been changed.
    """
    owners = {name.partition("/")[0] for name in variables}
    stored = {name: array for name, array in arrays.items() if name.partition("/")[0] in owners}
    wanted = {name: (tuple(each.shape), each.dtype) for name, each in variables.items()}
    found = {name: (array.shape, array.dtype.name) for name, array in stored.items()}
    if wanted != found:
        differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise InvalidValueError(
            f"the stored run is one of another model or optimizer: {len(differing)} variables differ, the first is "
            f"{differing[0]}; give the run's own settings, or another folder."
        )
    for name, variable in variables.items():
        variable.assign(as_value_of(variable, stored[name]))


KEPT = 2
_SUFFIX = ".safetensors"
_FACTS = "training_state"


@dataclasses.dataclass(frozen=True, order=True)
class Position:
    """A point in a run.

    Args:
        epoch: Epochs that are behind.
        batch: Batches of the next epoch that are behind.
    """

    epoch: int = 0
    batch: int = 0


class StateFolder:
    """Folder of state files, named by their position.

    Args:
        path: The folder; it is made when the first state is written.
    """

    def __init__(self, path: str | PathLike) -> None:
        self.path = Path(path)

    def write(self, position: Position, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Path:
        """Writes a state whole or not at all, then removes all but the newest two.

        Args:
            position: Where the run stands.
            arrays: Variables by name.
            facts: Whatever else belongs to the state, as JSON values.

        Returns:
            The file.

        Raises:
            OSError: the place is full or cannot be written; the message says so, and the last state is intact.
        """
        path = self.path / _name_of(position)
        note = json.dumps({**dataclasses.asdict(position), **facts})
        content = safetensors.numpy.save(dict(arrays), metadata={_FACTS: note})
        try:
            with atomic_write(path) as unfinished:
                unfinished.write_bytes(content)
        except OSError as error:
            reason = os.strerror(error.errno)
            kept = f"'{self.files()[-1]}' is intact" if self.files() else "none has been written before"
            raise FileError(
                error.errno,
                f"the state of the run could not be written to '{self.path}' ({reason}); the last one, {kept}. "
                "Make room or give write permission, and run the same command to go on.",
            ) from error
        for older in self.files()[:-KEPT]:
            older.unlink()
        return path

    def files(self) -> list[Path]:
        """The states, oldest first."""
        return sorted(path for path in self.path.glob(f"epoch-*{_SUFFIX}") if path.is_file())

    def newest(
        self, check: Callable[[Position, dict[str, Any]], None] | None = None
    ) -> tuple[Position, dict[str, np.ndarray], dict[str, Any]] | None:
        """Position, arrays and facts of the newest state that is whole; None if there is no state at all.

        Args:
            check: Raises ValueError for facts that cannot be those of a state; it is then passed over, as one that is
                damaged. Defaults to None: all are taken.

        Raises:
            ValueError: there are states, but none can be read.
        """
        reasons = []
        for path in reversed(self.files()):
            try:
                return _read(path, check)
            # RecursionError: JSON nested too deep. AttributeError: numbers of a type that NumPy has none for.
            except (SafetensorError, ValueError, RecursionError, AttributeError) as error:
                reasons.append(f"'{path}' is damaged: {error}")
        if reasons:
            raise InvalidValueError(
                f"no state of the run can be read ({'; '.join(reasons)}); remove '{self.path}' to begin anew."
            )
        return None

    def remove_unfinished(self) -> None:
        """Removes what a killed process had begun to write."""
        remove_unfinished(self.path)


def _name_of(position: Position) -> str:
    return f"epoch-{position.epoch:06d}-batch-{position.batch:08d}{_SUFFIX}"


def _read(
    path: Path, check: Callable[[Position, dict[str, Any]], None] | None
) -> tuple[Position, dict[str, np.ndarray], dict[str, Any]]:
    with safe_open(path, "numpy") as file:
        facts = json.loads((file.metadata() or {}).get(_FACTS, "null"))
        place = [facts.pop(name, None) for name in ("epoch", "batch")] if isinstance(facts, dict) else []
        if [type(each) for each in place] != [int, int] or path.name != _name_of(position := Position(*place)):
            raise InvalidValueError("it does not say the epoch and batch that it is named after")
        if check is not None:
            check(position, facts)
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    return position, arrays, facts
