"""Rules that hold for the order of every epoch."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_crossvit.pipeline.order import epoch_order, epoch_stream

counts, repeats, seeds, epochs = st.integers(1, 60), st.integers(1, 4), st.integers(0, 2**31), st.integers(0, 400)


@given(counts, repeats, seeds, epochs)
def test_every_image_is_seen_equally_often_and_copies_follow_each_other(count, repeats, seed, epoch):
    order = epoch_order(count, repeats, seed=seed, epoch=epoch)
    assert len(order) == len(set(order)) == count
    images = order // repeats
    assert len(set(images)) == -(-count // repeats)
    assert (np.diff(images) == 0).sum() == count - len(set(images))


@given(counts, seeds, epochs)
def test_an_order_depends_on_its_arguments_only(count, seed, epoch):
    first = epoch_order(count, 1, seed=seed, epoch=epoch)
    np.random.seed(count)
    np.testing.assert_array_equal(epoch_order(count, 1, seed=seed, epoch=epoch), first)


@settings(max_examples=6)  # each of which builds two datasets
@given(counts, repeats, seeds, st.data())
def test_an_epoch_that_continues_is_that_of_an_uninterrupted_run(count, repeats, seed, data):
    skip = data.draw(st.integers(0, count))

    def stream(skip):
        elements = tf.data.Dataset.range(count)
        rows = epoch_stream(elements, count, repeats=repeats, seed=seed, epoch=1, skip=skip)
        return [tuple(map(int, row)) for row in rows.as_numpy_iterator()]

    whole = stream(0)
    assert len(whole) == count
    assert stream(skip) == whole[skip:]
