"""Runs Keras models on the current backend."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.runtimes.metadata import metadata_of
from keras_crossvit.runtimes.runtime import OUTPUT_NAME, Runtime
from keras_crossvit.runtimes.saved_model import limit_tensorflow_threads

if TYPE_CHECKING:
    from keras_crossvit.models.crossvit import CrossViT


class KerasRuntime(Runtime):
    """Runs a Keras model. On JAX, calls run one at a time.

    Args:
        path: A checkpoint that describes its model, such as a `.keras` file, or a `CrossViT`.
        threads: Threads to compute with. JAX ignores it, and TensorFlow does once it has computed something. Defaults
            to None: what the backend has.

    Attributes:
        run_eagerly: Whether TensorFlow traces nothing, which is faster for a batch or two. False at first.
    """

    name = "Keras"

    def __init__(self, path: Path | CrossViT, *, threads: int | None = None) -> None:
        import keras

        from keras_crossvit.models.loading import load_model

        if threads is not None:
            limit_threads(threads)
        model = load_model(path) if isinstance(path, Path) else path
        super().__init__(metadata_of(model))
        self.run_eagerly = False
        self._traced, self._eager = _traced_and_eager(logits_model(model))
        # Keras on JAX passes the weights through an attribute of the model during a call.
        self._lock = threading.Lock() if keras.backend.backend() == "jax" else contextlib.nullcontext()

    def _run(self, images: list[np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock:
            compute = self._eager if self.run_eagerly else self._traced
            return {OUTPUT_NAME: np.asarray(compute(images), "float32")}


def _traced_and_eager(model: Any) -> tuple[Callable[[list[np.ndarray]], Any], Callable[[list[np.ndarray]], Any]]:
    """Returns the function of a model's inputs, traced once for batches of every size on TensorFlow, and as it is."""
    import keras

    if keras.backend.backend() != "tensorflow":
        model.compile(jit_compile=keras.backend.backend() == "jax")
        return model.predict_on_batch, model.predict_on_batch
    import tensorflow as tf

    def compute(images: list[tf.Tensor]) -> tf.Tensor:
        return model(images, training=False)

    signature = [[tf.TensorSpec(each.shape, each.dtype) for each in model.inputs]]
    return tf.function(compute, input_signature=signature, autograph=False), compute


def logits_model(model: CrossViT) -> Any:
    """Returns a Keras model that shares the weights and outputs logits, without the classifier activation.

    Raises:
        ValueError: the CrossViT has no classifier.
    """
    import keras

    if model.config.num_classes == 0:
        raise InvalidValueError(f"'{model.name}' has num_classes=0 and so no logits; build it with at least one class.")
    return keras.Model(model.inputs, model.get_layer(OUTPUT_NAME).output, name=model.name)


def limit_threads(threads: int) -> None:
    """Sets the number of threads of Keras' backend; JAX has no such setting."""
    import keras

    if keras.backend.backend() == "tensorflow":
        limit_tensorflow_threads(threads)
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads)
