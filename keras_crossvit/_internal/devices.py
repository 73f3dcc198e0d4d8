"""Which devices TensorFlow may use."""

from __future__ import annotations

import contextlib

import keras


def hide_gpus_from_tensorflow() -> None:
    """On the JAX backend, keeps TensorFlow from every GPU, all of whose memory it would take at its first operation.

    It makes the batches, which it does on the processor.
    """
    if keras.backend.backend() != "jax":
        return
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # it has had its first operation
        tf.config.set_visible_devices([], "GPU")
