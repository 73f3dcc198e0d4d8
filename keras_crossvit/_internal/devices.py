"""Devices that TensorFlow may use."""

from __future__ import annotations

import contextlib

import keras


def hide_gpus_from_tensorflow() -> None:
    """Hides GPUs from TensorFlow on the JAX backend, where it only prepares batches but would reserve their memory."""
    if keras.backend.backend() == "jax":
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # TensorFlow is in use already
            tf.config.set_visible_devices([], "GPU")
