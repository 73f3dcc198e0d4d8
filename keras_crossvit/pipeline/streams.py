"""The order of an epoch for what can only be read from its beginning to its end."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_crossvit.pipeline.order import stream_key

_WINDOW = 1024  # encoded pictures in memory, some 100 MB of usual photographs


def epoch_stream(
    elements: tf.data.Dataset, count: int, *, repeats: int, seed: int, epoch: int, skip: int
) -> tf.data.Dataset:
    """Shuffles within windows of 1,024 and repeats each element.

    `Dataset.shuffle` is not used, since its order depends on TensorFlow's global seed as well.

    Args:
        elements: Dataset of any elements that can be batched.
        count: How many they are.
        repeats: Copies of each.
        seed: Fixes the order, together with `epoch`.
        epoch: Round through the elements.
        skip: Elements to leave out at the beginning.

    Returns:
        Dataset of (element, copy) that ends after `count` elements, the skipped ones included.
    """
    key = tf.constant(stream_key("windows", seed=seed, epoch=epoch))

    def shuffled(number: tf.Tensor, window: Any) -> Any:
        size = tf.shape(tf.nest.flatten(window)[0])[0]
        order = tf.argsort(tf.random.stateless_uniform((size,), tf.stack([key, number])))
        return tf.nest.map_structure(lambda column: tf.gather(column, order), window)

    def copies(element: Any) -> tf.data.Dataset:
        return tf.data.Dataset.range(repeats).map(lambda copy: (element, copy))

    stream = elements.batch(_WINDOW).enumerate().map(shuffled).unbatch()
    return stream.flat_map(copies).take(count).skip(skip)
