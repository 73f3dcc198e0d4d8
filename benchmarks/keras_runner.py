"""This package's own model on a backend of Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.workload import Workload
from keras_crossvit._internal.malloc import keep_freed_memory
from keras_crossvit.models.builders import create_model
from keras_crossvit.runtimes.keras_model import limit_threads

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def prepare(task: dict[str, Any]) -> Any:
    """The contender for a task of the worker's."""
    work = Workload(**task["work"])
    limit_threads(work.threads)
    keep_freed_memory()
    weights = str(Path(task["folder"], "weights.safetensors"))
    if work.mode in ("load", "build"):
        return _Build(work, weights if work.mode == "load" else None)
    model = create_model(
        work.model, img_size=work.config.img_size, weights=weights, dtype=_POLICIES[work.precision], name="measured"
    )
    data = np.load(Path(task["folder"], "data.npz"))
    kind = _Training if work.mode == "training" else _Inference
    return kind(model, data, task["options"]["compiler"])


class _Measured:
    def peak_bytes(self) -> int:
        """Of the first accelerator that JAX or PyTorch sees; 0 where there is none."""
        if keras.backend.backend() == "jax":
            import jax

            return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
        if keras.backend.backend() == "torch":
            import torch

            return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        return 0


class _Inference(_Measured):
    """One batch through the compiled model, logits copied to the host."""

    def __init__(self, model: Any, data: Any, compiler: str) -> None:
        self._images = [keras.ops.convert_to_tensor(data[each.name]) for each in model.inputs]
        self._function = _compiled(model, compiler)

    def step(self) -> np.ndarray:
        return keras.ops.convert_to_numpy(self._function(*self._images))


def _compiled(model: Any, compiler: str) -> Any:
    def infer(small_patch_image: Any, large_patch_image: Any) -> Any:
        return model([small_patch_image, large_patch_image], training=False)

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


class _Training(_Measured):
    """One step of AdamW on the cross-entropy, by Keras' own train_on_batch."""

    def __init__(self, model: Any, data: Any, compiler: str) -> None:
        self._model = model
        self._images = [keras.ops.convert_to_tensor(data[each.name]) for each in model.inputs]
        self._labels = keras.ops.convert_to_tensor(data["labels"])
        model.compile(
            keras.optimizers.AdamW(1e-4, weight_decay=0.05),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=compiler == "xla",
        )

    def step(self) -> np.ndarray:
        return np.asarray([self._model.train_on_batch(self._images, self._labels)], "float32")


class _Build(_Measured):
    """Builds the model; with a file, loads its weights too."""

    def __init__(self, work: Workload, weights: str | None) -> None:
        self._work, self._weights = work, weights

    def step(self) -> None:
        keras.backend.clear_session()
        create_model(self._work.model, img_size=self._work.config.img_size, weights=self._weights)
