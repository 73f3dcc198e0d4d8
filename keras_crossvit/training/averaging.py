"""The running mean of the weights in the place of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras


class EvaluateAverages(keras.callbacks.SwapEMAWeights):
    """Evaluates the running mean of the weights that an optimizer with `use_ema=True` keeps.

    On TensorFlow, Keras' own swaps by adding and subtracting, which rounds both sides in every evaluation; this one
    swaps the values, so that a run is the same with and without evaluations.
    """

    _tf_swap_variables = keras.callbacks.SwapEMAWeights._backend_swap_variables

    @contextlib.contextmanager
    def in_place(self, model: Any) -> Iterator[None]:
        """Context in which the model has the mean for weights."""
        self.set_model(model)
        self._swap_variables()
        try:
            yield
        finally:
            self._swap_variables()
