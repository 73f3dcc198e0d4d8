"""Tensors by timm's names: of checkpoints, and of models in both directions."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_crossvit._internal.errors import InvalidValueError, first_line, listed
from keras_crossvit._internal.keras_compat import all_layers, quantized_layers, unmerged_kernel
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit.checkpoints.names import prefixes, tensor_names, timm_name, timm_spelling
from keras_crossvit.models.config import CrossViTConfig, config_of

FLOAT_DTYPES = ("float16", "bfloat16", "float32", "float64")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of a checkpoint: its name there, its shape in timm's layout, its dtype, and what reads its values."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An open checkpoint.

    Args:
        label: Its name in messages.
        tensors: Its tensors by timm's names.
        prefix: What was removed before the names of the model's tensors.
        model_config: `CrossViT.get_config` of the model that was saved, or None if the checkpoint does not have it.
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
        """Returns the tensor of one of timm's names, in float32 or float64."""
        array = self.tensors[name].read()
        return array if array.dtype.name == "float64" else array.astype("float32", copy=False)


def checkpoint_of(
    label: str, tensors: Iterable[Tensor], config: CrossViTConfig, model_config: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Returns a checkpoint of tensors that may have timm's or the authors' names and a prefix.

    Raises:
        ValueError: two tensors are for one weight, or a weight does not consist of floats; the message names them.
    """
    known = tensor_names(config)
    spelled = [(timm_spelling(tensor.name), tensor) for tensor in tensors]
    found = prefixes([name for name, _ in spelled], known) or [""]
    if len(found) > 1:
        raise InvalidValueError(
            f"{label} has weights of the model under {len(found)} prefixes, {', '.join(map(repr, found))}; pass a "
            "mapping with one set of them."
        )
    named: dict[str, Tensor] = {}
    for spelling, tensor in spelled:
        name = spelling.removeprefix(found[0])
        if name in named:
            raise InvalidValueError(
                f"{label} has two tensors for {name}, '{named[name].name}' and '{tensor.name}'; leave one of them out."
            )
        named[name] = tensor
    ours = [tensor for name, tensor in named.items() if name in known]
    refuse_other_dtypes(label, [f"{each.name} is {each.dtype}" for each in ours if each.dtype not in FLOAT_DTYPES])
    return Checkpoint(label=label, tensors=named, prefix=found[0], model_config=model_config)


def refuse_other_dtypes(label: str, others: Sequence[str]) -> None:
    """Raises ValueError that lists the weights of a checkpoint that are not floats, if there are any."""
    if others:
        raise InvalidValueError(
            f"{label} has weights that are not floats: {listed(others)}. Convert them to one of "
            f"{', '.join(FLOAT_DTYPES)}. No weight was changed."
        )


def tensors_in(label: str, arrays: Mapping[str, Any]) -> list[Tensor]:
    """Returns the tensors of a mapping from names to arrays of any library.

    Raises:
        ValueError: a name is not a string, or a value is not an array; the message has it.
    """
    for name in arrays:
        if not isinstance(name, str):
            raise InvalidValueError(f"{label} has the name {name!r}, which is not a string; use timm's names.")
    try:
        return [_tensor(name := each, value) for each, value in arrays.items()]
    except Exception as error:  # an array of any library may fail in any way
        raise InvalidValueError(f"{label} has no readable array for '{name}': {first_line(error)}") from error


def _tensor(name: str, value: Any) -> Tensor:
    torch = sys.modules.get("torch")  # imported, if the value is one of its tensors
    if torch is not None and torch.is_tensor(value):
        dtype = str(value.dtype).removeprefix("torch.")
        if value.is_meta or value.layout != torch.strided:
            dtype = f"{'meta' if value.is_meta else value.layout} {dtype}"
        return Tensor(name=name, shape=tuple(value.shape), dtype=dtype, read=lambda: _torch_array(torch, value))
    array = keras.ops.convert_to_numpy(value) if isinstance(value, keras.Variable) else np.asarray(value)
    return Tensor(name=name, shape=array.shape, dtype=array.dtype.name, read=lambda: array)


def _torch_array(torch: Any, tensor: Any) -> np.ndarray:
    tensor = tensor.to(torch.float32) if tensor.dtype == torch.bfloat16 else tensor  # NumPy has no bfloat16
    return tensor.numpy(force=True)


@known_keywords_only
def state_dict(model: Any) -> dict[str, np.ndarray]:
    """Returns the weights of a CrossViT by timm's names and in timm's layout.

    Args:
        model: A `CrossViT`.

    Returns:
        Mapping from names such as "blocks.0.projs.0.2.weight" to arrays: dense kernels as (out, in), convolution
        kernels as (out, in, height, width), everything else as it is. LoRA is merged into the kernels.

    Raises:
        TypeError: the model is not a `CrossViT`.
        ValueError: the model was quantized by Keras.
    """
    variables = variables_by_timm_name(model)
    merged = {id(unmerged_kernel(layer)): _merged_kernel(layer) for layer in _lora_layers(model)}
    return {
        name: to_timm_layout(keras.ops.convert_to_numpy(merged.get(id(variable), variable.value)), variable.name)
        for name, variable in variables.items()
    }


def assign(model: Any, checkpoint: Checkpoint, *, skipped: Collection[str] = (), allow_nonfinite: bool = False) -> None:
    """Sets all weights of a CrossViT from a checkpoint, or none: everything is checked before the first is set.

    Args:
        model: A `CrossViT`.
        checkpoint: The checkpoint.
        skipped: timm's names of weights that are kept.
        allow_nonfinite: Whether weights may be NaN or infinite.

    Raises:
        ValueError: tensors are missing, left over, wrongly shaped, unreadable or not finite; the message lists them.
    """
    if layers := _lora_layers(model):
        raise InvalidValueError(
            f"The model has LoRA on {len(layers)} layers, which would change the weights of {checkpoint.label}; load "
            "it before enable_lora()."
        )
    variables = {name: each for name, each in variables_by_timm_name(model).items() if name not in skipped}
    require_shapes({name: _timm_shape(variable) for name, variable in variables.items()}, checkpoint)
    values, nonfinite = {}, []
    for name, variable in variables.items():
        array = checkpoint.read(name)
        with np.errstate(over="ignore"):
            values[name] = from_timm_layout(array, variable.name).astype(variable.dtype, copy=False)
        if not np.isfinite(values[name]).all():
            reason = f" (beyond the range of {variable.dtype})" if np.isfinite(array).all() else ""
            nonfinite.append(f"{checkpoint.tensors[name].name}{reason}")
    if not allow_nonfinite:
        require_finite(checkpoint.label, nonfinite)
    for name, variable in variables.items():
        variable.assign(values[name])


def require_shapes(shapes: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint) -> None:
    """Raises ValueError unless a checkpoint has exactly the tensors of these names, in these shapes."""
    tensors = checkpoint.tensors
    findings = {
        "missing": [name for name in shapes if name not in tensors],
        "left over": [tensor.name for name, tensor in tensors.items() if name not in shapes],
        "wrongly shaped": [
            f"{tensors[name].name} {tensors[name].shape}, expected {shape}"
            for name, shape in shapes.items()
            if name in tensors and tensors[name].shape != shape
        ],
    }
    found = "; ".join(f"{len(names)} {kind}: {listed(names)}" for kind, names in findings.items() if names)
    if found:
        raise InvalidValueError(
            f"{checkpoint.label} does not fit the model, and no weight was changed. {found}. "
            "Use a checkpoint of the same architecture, num_classes, img_size and in_channels."
        )


def require_finite(label: str, nonfinite: Sequence[str]) -> None:
    """Raises ValueError that lists the tensors of a checkpoint that are NaN or infinite, if there are any."""
    if nonfinite:
        raise InvalidValueError(
            f"{label} has {len(nonfinite)} tensors with NaN or infinite values: {listed(nonfinite)}. Use a checkpoint "
            "from before the training diverged, or allow_nonfinite=True to load it anyway. No weight was changed."
        )


def nonfinite_weights(model: Any) -> list[str]:
    """Returns the paths of a model's weights that have NaN or infinite values."""
    return [each.path for each in model.weights if not np.isfinite(keras.ops.convert_to_numpy(each.value)).all()]


def variables_by_timm_name(model: Any) -> dict[str, Any]:
    """Returns the weights of a CrossViT by timm's names, in the model's order, without those of LoRA.

    Raises:
        TypeError: the model is not a `CrossViT`.
        ValueError: the model was quantized by Keras.
    """
    if quantized := [layer.name for layer in quantized_layers(model)]:
        raise InvalidValueError(
            f"Keras has quantized {listed(quantized)}, and timm has no names for quantized weights; save a .keras "
            "file, or load and save checkpoints before quantize()."
        )
    added = {id(each) for layer in _lora_layers(model) for each in (layer.lora_kernel_a, layer.lora_kernel_b)}
    config = config_of(model)
    return {timm_name(variable.path, config): variable for variable in model.weights if id(variable) not in added}


def _lora_layers(model: Any) -> list[Any]:
    return [layer for layer in all_layers(model) if getattr(layer, "lora_enabled", False)]


def _merged_kernel(layer: Any) -> Any:
    learned = keras.ops.matmul(layer.lora_kernel_a.value, layer.lora_kernel_b.value)
    return unmerged_kernel(layer).value + layer.lora_alpha / layer.lora_rank * learned


def to_timm_layout(array: np.ndarray, variable_name: str) -> np.ndarray:
    """Returns the array of one of our variables in PyTorch's layout."""
    return np.transpose(array, _timm_axes(array.ndim)) if variable_name == "kernel" else array


def from_timm_layout(array: np.ndarray, variable_name: str) -> np.ndarray:
    """Returns an array of timm's in the layout of our variable."""
    return np.transpose(array, np.argsort(_timm_axes(array.ndim))) if variable_name == "kernel" else array


def _timm_axes(rank: int) -> tuple[int, ...]:
    """Returns our axes in PyTorch's order: (in, out) -> (out, in); (height, width, in, out) -> (out, in, ...)."""
    return (rank - 1, rank - 2, *range(rank - 2))


def _timm_shape(variable: Any) -> tuple[int, ...]:
    shape = tuple(variable.shape)
    return tuple(shape[axis] for axis in _timm_axes(len(shape))) if variable.name == "kernel" else shape
