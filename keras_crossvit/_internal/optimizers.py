"""Optimizers that are saved whole: with what they leave out of weight decay, and with every optimizer inside them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import keras


class WeightDecayExclusions:
    """Mixin for Keras' optimizers that keeps in the configuration what is left out of weight decay.

    Keras keeps it in memory, by the variables themselves, so a model that is saved and loaded, copied or cloned decays
    all of them.

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
        """Excludes variables from weight decay, as Keras' own does."""
        var_list = list(var_list or ())
        self.excluded_paths = tuple(variable.path for variable in var_list)
        self.excluded_names = tuple(var_names or ())
        super().exclude_from_weight_decay(var_list, list(self.excluded_names))

    def build(self, variables: Any) -> None:
        """Makes the optimizer's variables, and finds those without weight decay among the given ones."""
        if not self.built and (self.excluded_paths or self.excluded_names):
            paths = set(self.excluded_paths)
            super().exclude_from_weight_decay(
                [variable for variable in variables if variable.path in paths], list(self.excluded_names)
            )
        super().build(variables)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        excluded = {"excluded_paths": list(self.excluded_paths), "excluded_names": list(self.excluded_names)}
        return {**super().get_config(), **excluded}


@keras.saving.register_keras_serializable(package="keras_crossvit")
class LayerWiseOptimizer(keras.optimizers.MultiOptimizer):
    """Keras' `MultiOptimizer`, whose inner optimizers `tf.train.Checkpoint` finds too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.inner_optimizers = tuple(self.optimizers)  # of Keras' list, TensorFlow's checkpoints see nothing


def _keeping(base: type) -> type:
    optimizer = type(f"{base.__name__}WithExclusions", (WeightDecayExclusions, base), {"__module__": __name__})
    return keras.saving.register_keras_serializable(package="keras_crossvit")(optimizer)


_WRAPPERS = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer)
_KEEPING = {
    base: _keeping(base)
    for base in vars(keras.optimizers).values()
    if isinstance(base, type)
    and issubclass(base, keras.optimizers.Optimizer)
    and base not in (keras.optimizers.Optimizer, *_WRAPPERS)
}


def _keeping_class(kind: type) -> type | None:
    """The class like one of Keras' own that keeps what is excluded; Keras has others of them for PyTorch."""
    if kind.__module__.partition(".")[0] != "keras":
        return None
    return next((_KEEPING[base] for base in kind.__mro__ if base in _KEEPING), None)


def excluding(optimizer: Any, variables: Iterable[Any], **changes: Any) -> Any:
    """A copy of an optimizer that leaves variables out of weight decay, also after it was saved and loaded.

    Args:
        optimizer: A Keras optimizer. One of a class that is not Keras' own forgets the variables when it is loaded.
        variables: The variables without weight decay.
        **changes: Values in the copy's configuration that are others.

    Returns:
        The copy, not built yet.
    """
    kind = type(optimizer)
    copy = (_keeping_class(kind) or kind).from_config({**optimizer.get_config(), **changes})
    copy.exclude_from_weight_decay(list(variables))
    return copy


def excluded_variables(optimizer: Any, variables: Iterable[Any]) -> list[Any]:
    """Those of the variables that an optimizer, or the one in charge of them within it, leaves out of weight decay."""
    return [variable for variable in variables if not _decays(optimizer, variable)]


def serialized_with_exclusions(serialized: dict[str, Any], optimizer: Any, variables: Iterable[Any]) -> dict[str, Any]:
    """An optimizer as Keras has serialized it, with what it leaves out of weight decay.

    Warns where a class that is not Keras' own would forget it.

    Args:
        serialized: The optimizer as Keras serializes it.
        optimizer: The optimizer itself.
        variables: The variables of its model.
    """
    paths = [variable.path for variable in excluded_variables(optimizer, variables)]
    if not paths:
        return serialized
    for kind in {type(each) for each in _leaves(optimizer)}:
        if not _keeping_class(kind) and not issubclass(kind, WeightDecayExclusions):
            warnings.warn(
                f"{kind.__name__} does not save which {len(paths)} variables it leaves out of weight decay; after "
                "loading, call model.optimizer.exclude_from_weight_decay() again, before fit().",
                stacklevel=2,
            )
    return _with_paths(serialized, paths)


def _leaves(optimizer: Any) -> Iterator[Any]:
    """The optimizers that change variables: the given one, or those that it wraps."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        yield from _leaves(optimizer.inner_optimizer)
    elif isinstance(optimizer, keras.optimizers.MultiOptimizer):
        yield from optimizer.optimizers
    else:
        yield optimizer


def _decays(optimizer: Any, variable: Any) -> bool:
    # Keras 3.15 has no public way to ask for either.
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return _decays(optimizer.inner_optimizer, variable)
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return _decays(optimizer._optimizer_map(variable), variable)
    # On TensorFlow Keras asks with TensorFlow's variable, whose name is another, and remembers the answer.
    return optimizer._use_weight_decay(variable.value if keras.backend.backend() == "tensorflow" else variable)


def _with_paths(serialized: Any, paths: list[str]) -> Any:
    """Replaces every serialized optimizer of Keras by the one of ours that keeps the paths."""
    if not isinstance(serialized, dict):
        return serialized
    of_keras = str(serialized.get("module")).partition(".")[0] == "keras"
    kind = getattr(keras.optimizers, str(serialized.get("class_name")), None) if of_keras else None
    if kind not in _KEEPING:
        return {key: _with_paths(value, paths) for key, value in serialized.items()}
    kind = _KEEPING[kind]
    return {
        "module": kind.__module__,
        "class_name": kind.__name__,
        "config": {**serialized["config"], "excluded_paths": paths},
        "registered_name": keras.saving.get_registered_name(kind),
    }
