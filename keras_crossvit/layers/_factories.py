"""Keras' own layers, set up as the authors set up theirs.

Every call draws from an initializer of its own, since one initializer instance repeats its draw.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras import ops
from keras.dtype_policies import DTypePolicyMap

from keras_crossvit._internal.errors import InvalidValueError


def as_rows(tokens: Any) -> Any:
    """Tokens (B, T, C) as rows (B * T, C), so that a Dense layer is one matrix product.

    On three axes it is a `tensordot`, which TensorFlow surrounds with arithmetic on the shape where the batch is open.
    """
    return ops.reshape(tokens, (-1, tokens.shape[-1]))


def as_built(inputs: Any, input_shape: tuple) -> Any:
    """Inputs with the shape that a layer was built for, where a graph is traced without knowing theirs.

    They are joined to an empty batch of that shape: inputs of another shape fail, and the error names both.

    Args:
        inputs: Tensor whose shape may be unknown while TensorFlow traces.
        input_shape: The shape that `build` was given.
    """
    if None not in inputs.shape[1:]:
        return inputs
    return ops.concatenate([ops.zeros((0, *known_sides(inputs.shape, input_shape)), inputs.dtype), inputs])


def known_sides(shape: tuple, input_shape: tuple) -> list[int]:
    """The sizes of a shape behind its batch, those that are unknown by the shape that a layer was built for."""
    return [built if size is None else size for size, built in zip(shape[1:], input_shape[1:], strict=True)]


def require_known(label: str, sizes: Iterable[int | None], remedy: str) -> None:
    """Raises ValueError where a layer is built without sizes that its weights or results depend on."""
    sizes = tuple(sizes)
    if None in sizes:
        raise InvalidValueError(
            f"{label} {', '.join(map(str, sizes))}: a size is unknown when the layer is built; {remedy}"
        )


def quantized_layers(model: Any) -> list[Any]:
    """The layers of a model whose weights Keras has quantized."""
    return [layer for layer in model._flatten_layers() if getattr(layer, "quantization_mode", None)]


def policy_with(policy: Any, layers: Iterable[Any]) -> Any:
    """A dtype policy with those that single layers have of their own; a map of policies keeps what it has."""
    own = {layer.path: policy_of(layer) for layer in layers}
    if not own:
        return policy
    known, default = (policy, policy.default_policy) if isinstance(policy, DTypePolicyMap) else ({}, policy)
    return DTypePolicyMap(default_policy=default, policy_map={**known, **own})


def float32_of(policy: Any) -> Any:
    """Float32 in place of a dtype policy; layers to which a map of policies gives their own keep that."""
    if isinstance(policy, DTypePolicyMap):
        return DTypePolicyMap(default_policy="float32", policy_map={**policy})
    return keras.dtype_policies.get("float32")


def policy_of(layer: Any) -> Any:
    """The dtype policy of a layer, also where it was given a map of those of many layers."""
    policy = layer.dtype_policy
    return policy[layer.path] if isinstance(policy, DTypePolicyMap) else policy


_skip_init = contextvars.ContextVar("skip_init", default=False)


@contextlib.contextmanager
def skip_init() -> Iterator[None]:
    """Leaves what is built inside at zero: drawing 100 million weights takes longer than reading them from a file.

    Only for models whose weights are all set right after. Heads are drawn all the same, since they may be new.
    """
    token = _skip_init.set(True)
    try:
        yield
    finally:
        _skip_init.reset(token)


def normal_initializer(*, always_init: bool = False) -> keras.initializers.Initializer:
    """Normal of deviation 0.02, for Dense kernels, class tokens and position embeddings; zeros where weights follow.

    With `always_init` it is the normal in any case. The authors truncate it at +-2, a hundred deviations away. Keras'
    TruncatedNormal cuts at two deviations, which would shrink the deviation to 0.0176, so the plain normal is the same
    draw.
    """
    if _skip_init.get() and not always_init:
        return keras.initializers.Zeros()
    return keras.initializers.RandomNormal(stddev=0.02)


def dense(name: str, units: int, dtype: Any, *, use_bias: bool = True, always_init: bool = False) -> keras.layers.Dense:
    """Dense layer with the normal initializer and a zero bias."""
    initializer = normal_initializer(always_init=always_init)
    return keras.layers.Dense(units, use_bias=use_bias, kernel_initializer=initializer, dtype=dtype, name=name)


def convolution(name: str, channels: int, dtype: Any, *, kernel_size: int, strides: int) -> keras.layers.Conv2D:
    """Unpadded convolution over channels-last images, drawn from a uniform of +-1 / sqrt(fan in).

    The uniform is PyTorch's default, which the authors leave in place for convolution kernels.
    """
    return keras.layers.Conv2D(
        channels,
        kernel_size,
        strides=strides,
        padding="valid",
        data_format="channels_last",
        kernel_initializer=keras.initializers.VarianceScaling(scale=1 / 3, mode="fan_in", distribution="uniform"),
        dtype=dtype,
        name=name,
    )


def layer_norm(name: str, dtype: Any) -> keras.layers.LayerNormalization:
    """Layer normalisation over the channels with the authors' epsilon, 1e-6 (Keras' default is 1e-3)."""
    return keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype, name=name)


def dropout(name: str, rate: float, dtype: Any) -> keras.layers.Dropout:
    """Dropout of single elements."""
    return keras.layers.Dropout(rate, dtype=dtype, name=name)
