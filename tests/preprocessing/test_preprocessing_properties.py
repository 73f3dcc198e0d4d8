"""Rules that hold for images and interpolation of every size."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import keras_crossvit as kc
from keras_crossvit.preprocessing.bicubic import antialiased_bicubic_weights, bicubic_weights
from keras_crossvit.preprocessing.transforms import IMAGENET_MEAN, IMAGENET_STD

CONFIG = kc.variant_config("crossvit_9_dagger", img_size=((48, 36), (32, 16)))
sizes = st.integers(1, 500)


@given(sizes, sizes)
def test_rows_of_bicubic_weights_sum_to_one(source, target):
    weights = bicubic_weights(source, target)
    assert weights.shape == (target, source)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-6)  # float32
    np.testing.assert_allclose(antialiased_bicubic_weights(source, target).sum(axis=1), 1, rtol=1e-12)


@given(sizes)
def test_bicubic_weights_of_an_equal_size_change_nothing(size):
    np.testing.assert_allclose(bicubic_weights(size, size), np.eye(size), rtol=0, atol=1e-6)


@given(sizes, sizes)
def test_bicubic_weights_are_symmetric(source, target):
    # Positions are rounded to float32, whose steps are 3e-5 pixels at 500, and the kernel's slope is at most 1.3.
    np.testing.assert_allclose(
        bicubic_weights(source, target)[::-1, ::-1], bicubic_weights(source, target), rtol=0, atol=1e-4
    )


@given(st.lists(st.tuples(sizes, sizes), min_size=1, max_size=3), st.sampled_from(["RGB", "gray", "gray, one channel"]))
def test_images_of_any_size_give_both_inputs(image_sizes, mode):
    channels = {"RGB": (3,), "gray": (), "gray, one channel": (1,)}[mode]
    images = [np.full((*size, *channels), 128, "uint8") for size in image_sizes]
    inputs = kc.preprocess(images, CONFIG)
    assert [each.shape for each in inputs] == [(len(images), 48, 36, 3), (len(images), 32, 16, 3)]
    expected = (128 / 255 - np.array(IMAGENET_MEAN)) / IMAGENET_STD
    for each in inputs:
        assert each.dtype == np.float32
        np.testing.assert_allclose(each - expected, 0, rtol=0, atol=1e-5)  # an even image stays even
