"""The order of an epoch: a function of (seed, epoch) only."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from keras_crossvit.pipeline.elements import map_elements

_ORDER = 0  # seeds a random stream of its own; mixing.py has 1, dataset.py 2, shard_writing.py 4
_WINDOW = 1024  # encoded images in memory, some 100 MB of usual photographs


def epoch_order(count: int, repeats: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns the samples of an epoch, shape (count,), int64: image * repeats + copy, shuffled by image.

    The copies of an image follow each other, and the epoch ends after `count` samples. NumPy's RandomState has frozen
    streams: a later release gives the same order. Source: the authors' RASampler in a single process, without its
    rounding to 256.
    """
    shuffled = np.random.RandomState([_ORDER, seed, epoch]).permutation(count).astype("int64")
    shown = shuffled[: -(-count // repeats)]
    return (shown[:, None] * repeats + np.arange(repeats)).reshape(-1)[:count]


def stream_key(purpose: str, *, seed: int, epoch: int) -> int:
    """Returns a 63-bit number that, with a sample's number, seeds TensorFlow's stateless random functions."""
    digest = hashlib.sha256(f"{purpose}/{seed}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def epoch_stream(
    elements: tf.data.Dataset, count: int, *, repeats: int, seed: int, epoch: int, skip: int
) -> tf.data.Dataset:
    """Returns (element, copy) of a dataset without random access, shuffled within windows of 1,024.

    It ends after `count` elements, of which the first `skip` are left out. `Dataset.shuffle` is not used, since its
    order also depends on TensorFlow's global seed.
    """
    key = tf.constant(stream_key("windows", seed=seed, epoch=epoch))

    def shuffle(number: tf.Tensor, window: Any) -> Any:
        size = tf.shape(tf.nest.flatten(window)[0])[0]
        order = tf.argsort(tf.random.stateless_uniform((size,), tf.stack([key, number])))
        return tf.nest.map_structure(lambda column: tf.gather(column, order), window)

    def copies(element: Any) -> tf.data.Dataset:
        return map_elements(tf.data.Dataset.range(repeats), lambda copy: (element, copy))

    stream = map_elements(elements.batch(_WINDOW).enumerate(), shuffle).unbatch()
    return stream.flat_map(tf.autograph.experimental.do_not_convert(copies)).take(count).skip(skip)
