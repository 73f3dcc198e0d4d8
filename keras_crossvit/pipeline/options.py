"""How tf.data runs the batches."""

from __future__ import annotations

import tensorflow as tf

_PREFETCHED_BATCHES = 2


def finished(batches: tf.data.Dataset, count: int, threads: int) -> tf.data.Dataset:
    """Batches of a known count, made ahead of their use, the same on every machine."""
    counted = batches.apply(tf.data.experimental.assert_cardinality(count))  # not known of what is read to its end
    options = tf.data.Options()
    options.deterministic = True
    # Each operation in one thread: sums are then taken in the same order on every machine, and pictures, of which
    # there are many, are what runs side by side.
    options.threading.max_intra_op_parallelism = 1
    options.threading.private_threadpool_size = threads
    return without_tuning(counted.prefetch(_PREFETCHED_BATCHES).with_options(options))


def without_tuning(batches: tf.data.Dataset) -> tf.data.Dataset:
    """A dataset that leaves nothing to tf.data's tuning, and whose iterator ends as soon as it is let go.

    The thread that tunes sleeps twice as long each time, up to a minute, and an iterator waits for it to wake up: the
    end of an epoch took up to as long as the epoch.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)
