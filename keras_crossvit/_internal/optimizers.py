"""Optimizers that save which variables they exclude from weight decay, and whose inner optimizers are saved."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_crossvit._internal.keras_compat import FusedAdamW, decays


class WeightDecayExclusions(keras.optimizers.Optimizer):
    """Mixin for Keras' optimizers that saves the exclusions from weight decay in the configuration.

    Keras only keeps them in memory, so a model that is saved and loaded, copied or cloned applies weight decay to all
    variables.

    Args:
        excluded_paths: Paths of the variables without weight decay. Defaults to none.
        excluded_names: Patterns of such variables' names, as `exclude_from_weight_decay` takes them. Defaults to none.
    """

    def __init__(
        self, *args: Any, excluded_paths: Iterable[str] = (), excluded_names: Iterable[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.excluded_paths = tuple(excluded_paths)
        self.excluded_names = tuple(excluded_names)

    def exclude_from_weight_decay(
        self, var_list: Iterable[Any] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Excludes variables from weight decay, as Keras' optimizers do."""
        var_list = list(var_list or ())
        self.excluded_paths = tuple(variable.path for variable in var_list)
        self.excluded_names = tuple(var_names or ())
        super().exclude_from_weight_decay(var_list, list(self.excluded_names))

    def build(self, variables: Any) -> None:
        """Creates the optimizer's variables, and finds the excluded ones among the given variables."""
        if not self.built and (self.excluded_paths or self.excluded_names):
            excluded = [variable for variable in variables if variable.path in self.excluded_paths]
            super().exclude_from_weight_decay(excluded, list(self.excluded_names))
        super().build(variables)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        excluded = {"excluded_paths": list(self.excluded_paths), "excluded_names": list(self.excluded_names)}
        return {**super().get_config(), **excluded}


@keras.saving.register_keras_serializable(package="keras_crossvit")
class LayerWiseOptimizer(keras.optimizers.MultiOptimizer):
    """A `MultiOptimizer` with a learning rate to read, whose inner optimizers `tf.train.Checkpoint` finds too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.inner_optimizers = tuple(self.optimizers)  # tf.train.Checkpoint does not see Keras' list

    @property
    def learning_rate(self) -> Any:
        """The largest finite learning rate of its optimizers, which callbacks record. It cannot be set."""
        rates = [each.learning_rate for each in self.optimizers]
        return max((rate for rate in rates if math.isfinite(float(rate))), key=float)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        raise AttributeError("The learning rates of its optimizers differ; set that of each of them.")


def _with_exclusions(base: type) -> type:
    optimizer = type(f"{base.__name__}WithExclusions", (WeightDecayExclusions, base), {"__module__": __name__})
    return keras.saving.register_keras_serializable(package="keras_crossvit")(optimizer)


FusedAdamWWithExclusions = _with_exclusions(FusedAdamW)
_WRAPPERS = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer)
_WITH_EXCLUSIONS = {
    base: _with_exclusions(base)
    for base in vars(keras.optimizers).values()
    if isinstance(base, type)
    and issubclass(base, keras.optimizers.Optimizer)
    and base not in (keras.optimizers.Optimizer, *_WRAPPERS)
}


def _class_with_exclusions(kind: type) -> Any:
    """Returns our subclass of one of Keras' optimizers (also of those that it has only for PyTorch), or None."""
    if kind.__module__.partition(".")[0] != "keras":
        return None
    return next((_WITH_EXCLUSIONS[base] for base in kind.__mro__ if base in _WITH_EXCLUSIONS), None)


def excluding(optimizer: Any, variables: Iterable[Any], **changes: Any) -> Any:
    """Returns a copy of an optimizer that excludes variables from weight decay, also after saving and loading.

    Args:
        optimizer: A Keras optimizer. An optimizer whose class is not Keras' loses the exclusions when it is saved.
        variables: The variables without weight decay.
        **changes: Values of the copy's configuration that differ.

    Returns:
        The copy, not built yet.
    """
    kind: Any = type(optimizer)
    copy = (_class_with_exclusions(kind) or kind).from_config({**optimizer.get_config(), **changes})
    copy.exclude_from_weight_decay(list(variables))
    return copy


def excluded_variables(optimizer: Any, variables: Iterable[Any]) -> list[Any]:
    """Returns the variables that an optimizer excludes from weight decay."""
    return [variable for variable in variables if not decays(optimizer, variable)]


def serialized_with_exclusions(serialized: dict[str, Any], optimizer: Any, variables: Iterable[Any]) -> dict[str, Any]:
    """Adds an optimizer's exclusions from weight decay to its serialized form.

    Warns if the optimizer's class is not Keras' and cannot save them.

    Args:
        serialized: The optimizer as Keras serializes it.
        optimizer: The optimizer.
        variables: The variables of its model.
    """
    paths = [variable.path for variable in excluded_variables(optimizer, variables)]
    if not paths:
        return serialized
    for kind in {type(each) for each in _leaves(optimizer)}:
        if not _class_with_exclusions(kind) and not issubclass(kind, WeightDecayExclusions):
            warnings.warn(
                f"{kind.__name__} does not save which {len(paths)} variables it excludes from weight decay; after "
                "loading, call model.optimizer.exclude_from_weight_decay() again before fit().",
                stacklevel=2,
            )
    return _with_paths(serialized, paths)


def _leaves(optimizer: Any) -> Iterator[Any]:
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        yield from _leaves(optimizer.inner_optimizer)
    elif isinstance(optimizer, keras.optimizers.MultiOptimizer):
        yield from optimizer.optimizers
    else:
        yield optimizer


def _with_paths(serialized: Any, paths: list[str]) -> Any:
    """Replaces every serialized Keras optimizer by our subclass with the paths."""
    if not isinstance(serialized, dict):
        return serialized
    is_keras = str(serialized.get("module")).partition(".")[0] == "keras"
    kind = getattr(keras.optimizers, str(serialized.get("class_name")), None) if is_keras else None
    if kind not in _WITH_EXCLUSIONS:
        return {key: _with_paths(value, paths) for key, value in serialized.items()}
    kind = _WITH_EXCLUSIONS[kind]
    return {
        "module": kind.__module__,
        "class_name": kind.__name__,
        "config": {**serialized["config"], "excluded_paths": paths},
        "registered_name": keras.saving.get_registered_name(kind),
    }
