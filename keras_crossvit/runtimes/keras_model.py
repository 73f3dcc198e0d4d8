"""Models of Keras, run by Keras on whichever backend it has."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.runtimes.metadata import metadata_of
from keras_crossvit.runtimes.runtime import OUTPUT_NAME, Runtime, limit_tensorflow_threads


class KerasRuntime(Runtime):
    """Runs a checkpoint that describes its model, such as a `.keras` file.

    Args:
        path: The file, or a `CrossViT` that is there already.
        threads: Threads to compute with; JAX alone takes no such wish. TensorFlow takes it before its first operation.
    """

    name = "Keras"

    def __init__(self, path: Path | Any, *, threads: int | None = None) -> None:
        import keras

        from keras_crossvit.models.loading import load_model

        if threads is not None:
            limit_threads(threads)
        model = load_model(path) if isinstance(path, Path) else path
        super().__init__(metadata_of(model))
        self._model = logits_model(model)
        is_jax = keras.backend.backend() == "jax"
        # XLA compiles for minutes on a CPU; JAX has nothing else.
        self._model.compile(jit_compile=is_jax)
        # Keras on JAX hands the weights to and fro through an attribute of the model.
        self._one_at_a_time = threading.Lock() if is_jax else contextlib.nullcontext()

    def _run(self, images: list[np.ndarray]) -> np.ndarray:
        with self._one_at_a_time:
            return np.asarray(self._model.predict_on_batch(images), "float32")


def logits_model(model: Any) -> Any:
    """A model of one's own for the logits of a CrossViT, whatever it makes of them; it shares the weights.

    Raises:
        ValueError: the CrossViT has no classes.
    """
    import keras

    if model.config.num_classes == 0:
        raise InvalidValueError(
            f"'{model.name}' has no classes and so no logits; build it with num_classes of 1 or more."
        )
    return keras.Model(model.inputs, model.get_layer(OUTPUT_NAME).output, name=model.name)


def limit_threads(threads: int) -> None:
    """Asks Keras' backend for a number of threads; JAX alone takes no such wish."""
    import keras

    if keras.backend.backend() == "tensorflow":
        limit_tensorflow_threads(threads)
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads)
