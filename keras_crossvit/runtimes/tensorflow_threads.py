"""TensorFlow's number of threads, which is the process's own."""

from __future__ import annotations


def limit_tensorflow_threads(threads: int) -> None:
    """Asks TensorFlow for a number of threads; once it has computed something it keeps those that it has."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        return
