"""The variables that a run changes, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_crossvit.training.processes import as_value_of


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
        raise ValueError(
            f"the stored run is one of another model or optimizer: {len(differing)} variables differ, the first is "
            f"{differing[0]}; give the run's own settings, or another folder."
        )
    for name, variable in variables.items():
        variable.assign(as_value_of(variable, stored[name]))
