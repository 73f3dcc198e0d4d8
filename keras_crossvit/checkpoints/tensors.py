"""A model's weights as a mapping from timm's names to arrays in timm's layout, both ways."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_crossvit._internal.errors import InvalidValueError, listed
from keras_crossvit.checkpoints.names import timm_name
from keras_crossvit.layers._factories import quantized_layers
from keras_crossvit.models.config import config_of

if TYPE_CHECKING:
    from keras_crossvit.checkpoints.checkpoint import Checkpoint


def state_dict(model: Any) -> dict[str, np.ndarray]:
    """A CrossViT's weights by timm's names and in timm's layout.

    Args:
        model: A `CrossViT`.

    Returns:
        Mapping from names such as "blocks.0.projs.0.2.weight" to arrays: dense kernels as (out, in), convolution
        kernels as (out, in, height, width), all else as it is. What LoRA has learnt is merged into the kernels.

    Raises:
        TypeError: the model is no `CrossViT`.
        ValueError: the model has been quantized by Keras.
    """
    variables = variables_by_timm_name(model)
    merged = {id(layer._kernel): _merged_kernel(layer) for layer in _lora_layers(model)}
    return {
        name: to_timm_layout(keras.ops.convert_to_numpy(merged.get(id(variable), variable.value)), variable.name)
        for name, variable in variables.items()
    }


def assign(model: Any, checkpoint: Checkpoint, *, skipped: Collection[str] = (), allow_nonfinite: bool = False) -> None:
    """Sets every weight of a CrossViT from a checkpoint, or none of them.

    All tensors are read and converted to the dtypes of the weights before the first is set.

    Args:
        model: A `CrossViT`.
        checkpoint: The checkpoint.
        skipped: timm's names of weights that stay as they are. Defaults to none.
        allow_nonfinite: Whether weights may be NaN or infinite. Defaults to False.

    Raises:
        ValueError: a tensor is missing, left over or wrongly shaped, and both leftovers are listed; or one cannot be
            read, or is not finite. No weight is set.
    """
    if layers := _lora_layers(model):
        raise InvalidValueError(
            f"The model has LoRA on {len(layers)} layers, which would change what {checkpoint.label} holds; load it "
            "before enable_lora()."
        )
    variables = {name: each for name, each in variables_by_timm_name(model).items() if name not in skipped}
    _check_fit(variables, checkpoint)
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


def require_finite(source: str, nonfinite: Sequence[str]) -> None:
    """Raises ValueError that names the tensors of a source that are NaN or infinite, if there are any."""
    if nonfinite:
        raise InvalidValueError(
            f"{source} has {len(nonfinite)} tensors that are not finite (NaN or infinite), and no weight was changed: "
            f"{listed(nonfinite)}. Use a checkpoint from before the training diverged, or allow_nonfinite=True to load "
            "it all the same."
        )


def nonfinite_weights(model: Any) -> list[str]:
    """Paths of a model's weights that have a value which is NaN or infinite."""
    return [each.path for each in model.weights if not np.isfinite(keras.ops.convert_to_numpy(each.value)).all()]


def variables_by_timm_name(model: Any) -> dict[str, Any]:
    """The weights of a CrossViT by timm's names, in the model's order; LoRA's are no weights of their own.

    Raises:
        TypeError: the model is no `CrossViT`.
        ValueError: the model has been quantized by Keras.
    """
    if quantized := [layer.name for layer in quantized_layers(model)]:
        raise InvalidValueError(
            f"Keras has quantized {listed(quantized)}, and timm has no names for such weights; save a .keras file, or "
            "load and save checkpoints before quantize()."
        )
    added = {id(each) for layer in _lora_layers(model) for each in (layer.lora_kernel_a, layer.lora_kernel_b)}
    config = config_of(model)
    return {timm_name(variable.path, config): variable for variable in model.weights if id(variable) not in added}


def _lora_layers(model: Any) -> list[Any]:
    return [layer for layer in model._flatten_layers() if getattr(layer, "lora_enabled", False)]


def _merged_kernel(layer: Any) -> Any:
    """Kernel with what LoRA has learnt, in the precision of the variables; the layer's own property rounds it."""
    learnt = keras.ops.matmul(layer.lora_kernel_a.value, layer.lora_kernel_b.value)
    return layer._kernel.value + layer.lora_alpha / layer.lora_rank * learnt


def to_timm_layout(array: np.ndarray, variable_name: str) -> np.ndarray:
    """Array of one of our variables as PyTorch keeps it."""
    return np.transpose(array, _axes_of_timm(array.ndim)) if variable_name == "kernel" else array


def from_timm_layout(array: np.ndarray, variable_name: str) -> np.ndarray:
    """Array of timm's as our variable keeps it."""
    return np.transpose(array, np.argsort(_axes_of_timm(array.ndim))) if variable_name == "kernel" else array


def _axes_of_timm(rank: int) -> tuple[int, ...]:
    """Our axes in the order of PyTorch's: (in, out) -> (out, in); (height, width, in, out) -> (out, in, ...)."""
    return (rank - 1, rank - 2, *range(rank - 2))


def _timm_shape(variable: Any) -> tuple[int, ...]:
    shape = tuple(variable.shape)
    return tuple(shape[axis] for axis in _axes_of_timm(len(shape))) if variable.name == "kernel" else shape


def _check_fit(variables: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    tensors = checkpoint.tensors
    missing = [name for name in variables if name not in tensors]
    left_over = [tensor.name for name, tensor in tensors.items() if name not in variables]
    misshapen = [
        f"{tensors[name].name} {tensors[name].shape} where the model has {_timm_shape(variable)}"
        for name, variable in variables.items()
        if name in tensors and tensors[name].shape != _timm_shape(variable)
    ]
    if not missing and not left_over and not misshapen:
        return
    findings = {"missing": missing, "left over": left_over, "wrongly shaped": misshapen}
    found = "; ".join(f"{len(names)} {kind}: {listed(names)}" for kind, names in findings.items() if names)
    raise InvalidValueError(
        f"{checkpoint.label} does not fit the model, and no weight was changed. {found}. "
        "Use a checkpoint of the same architecture, num_classes, img_size and in_channels."
    )
