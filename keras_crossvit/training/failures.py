"""TensorFlow's errors in a line that says what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from keras_crossvit.errors import reason_of

_NO_MEMORY = (
    "there is no memory left for a step ({reason}); end what else needs some and run the same command, or train "
    "into another folder with gradient_checkpointing, more accumulation_steps or a smaller batch_size."
)
_ELSE = "TensorFlow cannot go on ({reason}); put that right, and the same command goes on from the last state."


@contextlib.contextmanager
def failures_explained() -> Iterator[None]:
    """Context in which an error of TensorFlow's, of many lines, becomes a RuntimeError of one with a remedy."""
    try:
        yield
    except tf.errors.OpError as error:
        text = _NO_MEMORY if isinstance(error, tf.errors.ResourceExhaustedError) else _ELSE
        raise RuntimeError(text.format(reason=reason_of(error))) from error
