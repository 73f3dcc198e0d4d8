"""Statistics of crops, erased rectangles and mixing plans, and the resizing of the large-patch input."""

import types

import numpy as np
import pytest
import tensorflow as tf

from keras_crossvit.layers import BicubicResize
from keras_crossvit.pipeline import Augmentation, samples
from keras_crossvit.pipeline.mixing import bicubic_resizer, mixing_plan

PAPER = Augmentation()


def test_random_crops_are_inside_the_image_and_not_empty():
    random = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 900), (8, 10_000), (375, 500)):
        draws = random.uniform(size=(50, samples.CROP_DRAWS)).astype("float32")
        windows = tf.map_fn(
            lambda each, h=height, w=width: samples.random_window(PAPER, tf.constant(h), tf.constant(w), each),
            tf.constant(draws),
            fn_output_signature=tf.int32,
        ).numpy()
        top, left, crop_height, crop_width = windows.T
        assert (top >= 0).all()
        assert (left >= 0).all()
        assert (np.minimum(crop_height, crop_width) >= 1).all()
        assert (top + crop_height <= height).all()
        assert (left + crop_width <= width).all()
        if (height, width) == (375, 500):
            fractions = crop_height * crop_width / (height * width)
            assert 0.07 < fractions.min() < 0.2
            assert fractions.max() > 0.75


def test_center_window_keeps_the_crop_fraction():
    window = samples.center_window(tf.constant(375), tf.constant(500), (240, 240), 0.875)
    np.testing.assert_array_equal(window, [(375 - 328) // 2, (500 - 328) // 2, 328, 328])


def test_only_one_rectangle_is_replaced_by_normal_noise():
    image = tf.fill((240, 240, 3), 7.0)
    random = np.random.default_rng(0)
    areas, erased = [], 0
    for i in range(60):
        draws = random.uniform(size=samples.ERASING_DRAWS).astype("float32")
        result = samples.erase(image, 0.25, tf.constant(draws), tf.constant([5, i], tf.int64)).numpy()
        changed = (result != 7.0).all(axis=2)
        assert changed.any() == (draws[0] <= 0.25)
        if changed.any():
            erased += 1
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            assert changed.sum() == len(rows) * len(columns)  # one whole rectangle
            areas.append(changed.mean())
            assert abs(result[changed].mean()) < 0.1
            assert result[changed].std() == pytest.approx(1, abs=0.1)
    assert 5 < erased < 28
    assert 0.019 < min(areas) <= max(areas) < 0.34


def plan(steps=4000, **fields):
    return mixing_plan(Augmentation(**fields), steps, 240, 200, seed=0, epoch=0)


def test_mixing_plan_switches_between_mixup_and_cutmix():
    both = plan()
    is_cutmix = (both.boxes[:, 1] > both.boxes[:, 0]) & (both.boxes[:, 3] > both.boxes[:, 2])
    assert is_cutmix.mean() == pytest.approx(0.5, abs=0.04)
    area = (both.boxes[:, 1] - both.boxes[:, 0]) * (both.boxes[:, 3] - both.boxes[:, 2]) / (240 * 200)
    np.testing.assert_allclose(both.fractions[is_cutmix], 1 - area[is_cutmix], atol=1e-6)
    np.testing.assert_array_equal(both.blends[is_cutmix], 1)
    mixup_only = plan(cutmix=0.0)
    assert not mixup_only.boxes.any()
    # The variance of a beta distribution of two equal parameters a is 1 / (8 a + 4).
    assert mixup_only.fractions.var() == pytest.approx(1 / (8 * 0.8 + 4), rel=0.05)
    assert mixup_only.fractions.mean() == pytest.approx(0.5, abs=0.02)
    assert (plan(mixup=0.0).blends == 1).all()


@pytest.mark.parametrize(("source", "target"), [((240, 240), (224, 224)), ((48, 60), (32, 47)), ((33, 33), (40, 40))])
def test_blockwise_resizing_equals_the_layer(source, target):
    images = np.random.default_rng(0).normal(size=(2, *source, 3)).astype("float32")
    config = types.SimpleNamespace(image_sizes=(source, target), in_channels=3)
    # Float32 in another order of summation.
    np.testing.assert_allclose(
        bicubic_resizer(config)(tf.constant(images)), BicubicResize(*target)(images), rtol=0, atol=5e-6
    )
