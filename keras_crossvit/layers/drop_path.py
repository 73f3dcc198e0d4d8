"""Stochastic depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_crossvit._internal.checks import require_rate
from keras_crossvit.layers._factories import arguments_of, unchanged


@keras.saving.register_keras_serializable(package="keras_crossvit")
class DropPath(keras.layers.Layer):
    """Sets whole samples to zero in training, and scales the others by 1 / (1 - rate).

    Args:
        rate: Probability that a sample is dropped, in [0, 1). Defaults to 0.0, which makes the layer the identity.
        seed: Integer that makes the layer deterministic. Defaults to None: `keras.utils.set_random_seed` decides.

    Inputs:
        Tensor of shape (B, ...).

    Returns:
        Tensor of the same shape.

    Raises:
        ValueError: `rate` is outside [0, 1).

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016; timm.layers.DropPath.
    """

    def __init__(self, rate: float = 0.0, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = require_rate("drop path rate", rate)
        self.seed = seed
        if self.rate > 0:
            self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True  # Keras does not quantize a model that has an unbuilt layer

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training or self.rate == 0:
            return inputs
        one_draw_per_sample = (keras.ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        return keras.random.dropout(inputs, self.rate, noise_shape=one_draw_per_sample, seed=self.seed_generator)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **arguments_of(self, "rate", "seed")}


def drop_path(name: str, rate: float, dtype: Any) -> Callable[..., Any]:
    """Returns a drop path layer, or `unchanged` if the rate is 0."""
    return DropPath(rate, dtype=dtype, name=name) if rate else unchanged
