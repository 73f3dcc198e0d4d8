"""Keras layers with the reference's settings, and helpers that several layers share.

Every layer gets its own initializer, because an initializer instance repeats its draw.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.layers._backend_operations import LayerNormalization

_STDDEV = 0.02
_skip_init = contextvars.ContextVar("skip_init", default=False)


@contextlib.contextmanager
def skip_init() -> Iterator[None]:
    """Initializes weights to zero, because drawing 100 million weights takes longer than reading them from a file.

    Only for models whose weights are set right afterwards. Heads are initialized all the same, since they may be new.
    """
    token = _skip_init.set(True)
    try:
        yield
    finally:
        _skip_init.reset(token)


def normal_initializer(*, always_init: bool = False) -> keras.initializers.Initializer:
    """Returns a normal initializer of standard deviation 0.02, or zeros inside `skip_init()` unless `always_init`.

    The reference truncates it at +-2, which is 100 standard deviations and never happens. Keras' TruncatedNormal would
    truncate at two standard deviations.
    """
    zeros = _skip_init.get() and not always_init
    if keras.backend.backend() == "jax":
        return _NumPyNormal(stddev=0.0 if zeros else _STDDEV)
    return keras.initializers.Zeros() if zeros else keras.initializers.RandomNormal(stddev=_STDDEV)


class _NumPyNormal(keras.initializers.RandomNormal):
    """Draws in NumPy: JAX would compile a program for each shape, which takes ten seconds for a model."""

    def __call__(self, shape: tuple, dtype: Any = None) -> Any:
        values = np.random.default_rng(self.seed).standard_normal(shape, "float32") if self.stddev else np.zeros(shape)
        return ops.convert_to_tensor(self.stddev * values, dtype)


class _NumPyUniform(keras.initializers.VarianceScaling):
    """Does the same for a kernel that is uniform within +-1 / sqrt(fan in)."""

    def __call__(self, shape: tuple, dtype: Any = None) -> Any:
        values = 2 * np.random.default_rng(self.seed).random(shape, "float32") - 1
        return ops.convert_to_tensor(values / math.prod(shape[:-1]) ** 0.5, dtype)


def dense(name: str, units: int, dtype: Any, *, use_bias: bool = True, always_init: bool = False) -> keras.layers.Dense:
    """Returns a dense layer with normal kernel and zero bias."""
    initializer = normal_initializer(always_init=always_init)
    return keras.layers.Dense(units, use_bias=use_bias, kernel_initializer=initializer, dtype=dtype, name=name)


def convolution(name: str, channels: int, dtype: Any, *, kernel_size: int, strides: int) -> keras.layers.Conv2D:
    """Returns an unpadded convolution whose kernel is uniform within +-1 / sqrt(fan in), PyTorch's default."""
    uniform = _NumPyUniform if keras.backend.backend() == "jax" else keras.initializers.VarianceScaling
    return keras.layers.Conv2D(
        channels,
        kernel_size,
        strides=strides,
        padding="valid",
        data_format="channels_last",
        kernel_initializer=uniform(scale=1 / 3, mode="fan_in", distribution="uniform"),
        dtype=dtype,
        name=name,
    )


def layer_norm(name: str, dtype: Any) -> keras.layers.LayerNormalization:
    """Returns a layer normalization with the reference's epsilon, 1e-6 (Keras' default is 1e-3)."""
    return LayerNormalization(epsilon=1e-6, dtype=dtype, name=name)


def dropout(name: str, rate: float, dtype: Any) -> Callable[..., Any]:
    """Returns a dropout layer, or `unchanged` if the rate is 0."""
    return keras.layers.Dropout(rate, dtype=dtype, name=name) if rate else unchanged


def unchanged(inputs: Any, training: bool | None = None) -> Any:
    """Returns its inputs. Dropout layers of rate 0 do the same, but Keras takes time to create, call and save them."""
    return inputs


def as_rows(tokens: Any) -> Any:
    """Reshapes tokens (B, T, C) to rows (B * T, C), for which a dense layer is a single matrix product.

    On three axes it is a `tensordot`, which adds shape arithmetic on TensorFlow where the batch size is unknown.
    """
    return ops.reshape(tokens, (-1, tokens.shape[-1]))


def with_built_shape(inputs: Any, input_shape: tuple) -> Any:
    """Returns the inputs with the shape that a layer was built for, where TensorFlow traces without knowing theirs.

    They are concatenated to an empty batch of that shape. Inputs of another shape fail, and the error has both shapes.
    """
    if None not in inputs.shape[1:]:
        return inputs
    return ops.concatenate([ops.zeros((0, *known_sizes(inputs.shape, input_shape)), inputs.dtype), inputs])


def known_sizes(shape: tuple, input_shape: tuple) -> list[int]:
    """Returns the sizes after the batch axis, unknown ones replaced by those that a layer was built for."""
    return [built if size is None else size for size, built in zip(shape[1:], input_shape[1:], strict=True)]


def require_known_sizes(label: str, sizes: tuple, remedy: str) -> None:
    """Raises ValueError if a layer is built without the sizes that it depends on."""
    if None in sizes:
        raise InvalidValueError(f"{label} {', '.join(map(str, sizes))}: every size must be known; {remedy}")


class LayerWithAttentionScores(keras.layers.Layer):
    """Base of layers whose call takes `return_attention_scores`, as `keras.layers.MultiHeadAttention` does.

    A subclass has `scores_shape(input_shape)`.
    """

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None, return_attention_scores: bool = False
    ) -> Any:
        output = super().compute_output_spec(inputs)
        if not return_attention_scores:
            return output
        shapes = keras.tree.map_structure(lambda each: each.shape, inputs)
        return output, keras.KerasTensor(self.scores_shape(shapes), output.dtype)


def arguments_of(layer: keras.layers.Layer, *arguments: str) -> dict[str, Any]:
    """Returns the values of a layer's constructor arguments, which are attributes of the same names."""
    return {argument: getattr(layer, argument) for argument in arguments}
