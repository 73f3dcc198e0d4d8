"""Runs this package's model on a Keras backend, and its input pipeline."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.workload import Workload
from keras_crossvit._internal.malloc import keep_freed_memory
from keras_crossvit.models.builders import create_model
from keras_crossvit.runtimes.keras_model import limit_threads

_DTYPES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


class _Measured:
    """The model with the shared weights, and a batch."""

    def __init__(self, workload: Workload, folder: Path) -> None:
        limit_threads(workload.threads)
        keep_freed_memory()
        weights, data = str(folder / "weights.safetensors"), np.load(folder / "data.npz")
        self._model = create_model(
            workload.model, img_size=workload.config.img_size, weights=weights, dtype=_DTYPES[workload.precision]
        )
        self._images = [keras.ops.convert_to_tensor(data[each.name]) for each in self._model.inputs]
        self._labels = keras.ops.convert_to_tensor(data["labels"])

    def peak_bytes(self) -> int:
        """Returns the peak memory of the first GPU that JAX or PyTorch sees, or 0."""
        if keras.backend.backend() == "jax":
            import jax

            return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
        if keras.backend.backend() == "torch":
            import torch

            return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        return 0


class Inference(_Measured):
    """Runs a batch through the compiled model and copies the logits to the host."""

    def __init__(self, workload: Workload, folder: Path, *, compiler: str) -> None:
        super().__init__(workload, folder)
        self._infer = _compile(self._model, compiler)

    def step(self) -> np.ndarray:
        """Returns the logits."""
        return keras.ops.convert_to_numpy(self._infer(*self._images))


def _compile(model: Any, compiler: str) -> Callable[..., Any]:
    def infer(*images: Any) -> Any:
        return model(list(images), training=False)

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(infer, jit_compile=compiler == "xla")
    if backend == "jax":
        import jax

        variables = [
            [each.value for each in group] for group in (model.trainable_variables, model.non_trainable_variables)
        ]
        function = jax.jit(lambda variables, *images: model.stateless_call(*variables, list(images), training=False)[0])
        return lambda *images: function(variables, *images)
    import torch

    return torch.inference_mode()(infer)


class Training(_Measured):
    """Takes steps of AdamW on the cross-entropy by `fit`."""

    def __init__(self, workload: Workload, folder: Path, *, compiler: str) -> None:
        super().__init__(workload, folder)
        self._model.compile(
            keras.optimizers.AdamW(1e-4, weight_decay=0.05),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=compiler == "xla",
        )

    def step(self) -> np.ndarray:
        """Returns the loss."""
        return np.asarray(self._fit(1).history["loss"], "float32")

    def time_steps(self, number: int) -> list[float]:
        """Takes a step that is not timed, then `number` more, and returns the seconds between their ends."""
        times = _EndTimes()
        self._fit(1 + number, times)
        return [end - start for start, end in itertools.pairwise(times.seconds)]

    def _fit(self, steps: int, *callbacks: keras.callbacks.Callback) -> keras.callbacks.History:
        batches = ((tuple(self._images), self._labels) for _ in range(steps))
        return self._model.fit(batches, steps_per_epoch=steps, callbacks=list(callbacks), verbose=0)


class _EndTimes(keras.callbacks.Callback):
    """Notes when each step ends. Keras calls it from a thread of its own, so that no step waits for it."""

    async_safe = True

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.seconds.append(time.perf_counter())


class Pipeline:
    """Reads an epoch of JPEG files: crop, flip, RandAugment, normalization, erasing and both inputs; no mixing."""

    def __init__(self, workload: Workload, folder: Path) -> None:
        from keras_crossvit.pipeline import Augmentation, open_dataset, training_batches

        dataset = open_dataset(str(folder / "images"))
        config = dataclasses.replace(workload.config, num_classes=len(dataset.class_names))
        augmentation = Augmentation(mixup=0.0, cutmix=0.0, repeats=1)
        self._batches = training_batches(
            dataset, config, augmentation, workload.batch_size, seed=0, epoch=0, threads=workload.threads
        )

    def step(self) -> None:
        """Reads an epoch."""
        for (small_patch_image, _), _ in self._batches:
            small_patch_image.numpy()
