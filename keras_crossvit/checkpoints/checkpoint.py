"""Tensors of a source of weights, as they are stored and by timm's names."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_crossvit._internal.errors import InvalidValueError, first_line, listed
from keras_crossvit.checkpoints.names import common_prefix, tensor_names, timm_spelling
from keras_crossvit.models.config import CrossViTConfig

FLOAT_DTYPES = ("float16", "bfloat16", "float32", "float64")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor as its source stores it.

    Args:
        name: Its name in the source.
        shape: Its shape, in timm's layout.
        dtype: Name of its dtype.
        read: Reads its values.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An open source of weights.

    Args:
        label: What messages call it.
        tensors: Its tensors by timm's names.
        prefix: What all names of the model's tensors began with in the source. Defaults to "".
        model_config: What `CrossViT.get_config` said of the model that was saved. Defaults to None: the source does
            not say.
    """

    label: str
    tensors: Mapping[str, Tensor]
    prefix: str = ""
    model_config: Mapping[str, Any] | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors by timm's names."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def read(self, name: str) -> np.ndarray:
        """The tensor of one of timm's names, in float32 or float64."""
        array = self.tensors[name].read()
        return array if array.dtype.name == "float64" else array.astype("float32", copy=False)


def checkpoint_of(
    label: str, tensors: Iterable[Tensor], config: CrossViTConfig, model_config: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Names the tensors of a source as timm does.

    Args:
        label: What messages call the source.
        tensors: Its tensors.
        config: Architecture of the model that they are for.
        model_config: As of `Checkpoint`.

    Returns:
        The checkpoint.

    Raises:
        ValueError: two tensors are for one weight, or a weight is stored as something else than floats; the message
            names the tensors.
    """
    known = tensor_names(config)
    spelled = [(timm_spelling(tensor.name), tensor) for tensor in tensors]
    try:
        prefix = common_prefix([name for name, _ in spelled], known)
    except ValueError as error:
        raise InvalidValueError(f"{label} {error}") from None
    named: dict[str, Tensor] = {}
    for spelling, tensor in spelled:
        name = spelling.removeprefix(prefix)
        if name in named:
            raise InvalidValueError(
                f"{label} has two tensors for {name}, '{named[name].name}' and '{tensor.name}'; leave one of them out."
            )
        named[name] = tensor
    ours = [tensor for name, tensor in named.items() if name in known]
    refuse_other_dtypes(label, [f"{each.name} is {each.dtype}" for each in ours if each.dtype not in FLOAT_DTYPES])
    return Checkpoint(label=label, tensors=named, prefix=prefix, model_config=model_config)


def refuse_other_dtypes(label: str, odd: Sequence[str]) -> None:
    """Raises ValueError that lists the weights of a source which are not floats, if there are any."""
    if odd:
        raise InvalidValueError(
            f"{label} has weights that are not floats, and no weight was changed: {listed(odd)}. "
            f"Convert them to one of {', '.join(FLOAT_DTYPES)}."
        )


def tensors_in(label: str, arrays: Mapping[str, Any]) -> list[Tensor]:
    """The tensors of a mapping from names to arrays or tensors of any library.

    Raises:
        ValueError: a name is not a string, or a value is not an array; the message names it.
    """
    if strangers := [name for name in arrays if not isinstance(name, str)]:
        raise InvalidValueError(f"{label} names a tensor {strangers[0]!r}, which is not a string; use timm's names.")
    try:
        return [_tensor(name := each, value) for each, value in arrays.items()]
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidValueError(f"{label} has no array by the name '{name}': {first_line(error)}") from error


def _tensor(name: str, value: Any) -> Tensor:
    torch = sys.modules.get("torch")  # who has one of its tensors has imported it
    if torch is not None and torch.is_tensor(value):
        is_stored = value.layout == torch.strided and not value.is_meta
        dtype = str(value.dtype).removeprefix("torch.")
        dtype = dtype if is_stored else f"{'meta' if value.is_meta else value.layout} {dtype}"
        return Tensor(name=name, shape=tuple(value.shape), dtype=dtype, read=lambda: _torch_array(torch, value))
    array = keras.ops.convert_to_numpy(value) if isinstance(value, keras.Variable) else np.asarray(value)
    return Tensor(name=name, shape=array.shape, dtype=array.dtype.name, read=lambda: array)


def _torch_array(torch: Any, tensor: Any) -> np.ndarray:
    tensor = tensor.to(torch.float32) if tensor.dtype == torch.bfloat16 else tensor  # which NumPy itself has not
    return tensor.numpy(force=True)
