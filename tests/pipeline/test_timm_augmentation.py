"""Agreement with timm's augmentation for the same random numbers."""

import random
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

import keras_crossvit as kc
from keras_crossvit.pipeline import Augmentation, rand_augment, samples
from keras_crossvit.pipeline.mixing import mix_and_resize, mixing_plan
from keras_crossvit.pipeline.rand_augment import FILL
from tests.helpers import timm_reference

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not timm_reference.is_installed(), reason=f"needs timm: {timm_reference.INSTALLATION}"),
]
PAPER = Augmentation()
WITHOUT_SIGN = {
    *("AutoContrast", "Equalize", "Invert"),
    *("PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd"),
}


@pytest.fixture(scope="module")
def timm_data():
    timm_reference.import_timm()
    from timm.data import auto_augment, mixup, random_erasing, transforms

    return types.SimpleNamespace(
        auto_augment=auto_augment, mixup=mixup, random_erasing=random_erasing, transforms=transforms
    )


@pytest.fixture(scope="module")
def image():
    return np.ascontiguousarray(load_sample_images().images[0][100:340, 200:440] // 2 + 30)


@pytest.mark.parametrize("magnitude", [2.0, 8.7])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", list(rand_augment.OPERATIONS))
def test_each_operation_equals_timm(timm_data, image, name, magnitude, sign, monkeypatch):
    monkeypatch.setattr(timm_data.auto_augment, "_randomly_negate", lambda value: sign * value)
    hparams = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC, "magnitude_std": 0}
    theirs = timm_data.auto_augment.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=hparams)
    expected = np.asarray(theirs(Image.fromarray(image)))
    ours = np.asarray(rand_augment.OPERATIONS[name](Image.fromarray(image), magnitude / 10, sign))
    np.testing.assert_array_equal(ours, expected)
    if magnitude > 5:  # below, an image without white is not solarized
        assert (expected != image).any()


def test_rand_augment_equals_timm_for_the_same_draws(timm_data, image, monkeypatch):
    hparams = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
    theirs = timm_data.auto_augment.rand_augment_transform("rand-m9-mstd0.5-inc1", hparams)
    draws = np.random.default_rng(3).uniform(size=(30, 2, rand_augment.DRAWS_PER_OPERATION)).astype("float32")
    strengths = np.random.default_rng(4).normal(size=(30, 2)).astype("float32") / 2  # below magnitude 10
    for of_image, of_strength in zip(draws, strengths, strict=True):
        chosen = [theirs.ops[int(each[1] * len(theirs.ops))] for each in of_image]
        monkeypatch.setattr(np.random, "choice", lambda *_, chosen=chosen, **__: chosen)
        answers = []
        for operation, (whether, _, sign) in zip(chosen, of_image, strict=True):
            has_sign = whether <= 0.5 and operation.name not in WITHOUT_SIGN
            answers += [whether, sign] if has_sign else [whether]
        numbers = iter(answers)
        gauss = iter([9 + 0.5 * float(s) for s, each in zip(of_strength, of_image, strict=True) if each[0] <= 0.5])
        monkeypatch.setattr(random, "random", lambda n=numbers: float(next(n)))
        monkeypatch.setattr(random, "gauss", lambda mean, standard_deviation, g=gauss: next(g))
        expected = np.asarray(theirs(Image.fromarray(image)))
        ours = rand_augment.rand_augment(Image.fromarray(image), PAPER, of_image, of_strength)
        np.testing.assert_array_equal(np.asarray(ours), expected)


def test_operations_and_settings_are_those_of_timm(timm_data):
    transform = timm_data.auto_augment.rand_augment_transform("rand-m9-mstd0.5-inc1", {})
    assert [each.name for each in transform.ops] == list(rand_augment.OPERATIONS)
    assert {each.prob for each in transform.ops} == {rand_augment._PROBABILITY}
    assert {(each.magnitude, each.magnitude_std) for each in transform.ops} == {(9, 0.5)}
    assert transform.num_layers == PAPER.rand_augment_ops


def test_crops_equal_timm_for_the_same_draws(timm_data, monkeypatch):
    monkeypatch.setattr(timm_data.transforms, "F", types.SimpleNamespace(get_image_size=lambda size: size))
    draws = np.random.default_rng(0).uniform(size=(40, samples.CROP_DRAWS)).astype("float32")
    sizes = [(500, 375), (375, 500), (900, 80), (30, 2000)] * 10
    differing = 0
    for (width, height), row in zip(sizes, draws, strict=True):
        uniform = iter([u for pair in zip(row[:10], row[10:20], strict=True) for u in pair])
        corner = iter(row[20:])
        monkeypatch.setattr(random, "uniform", lambda low, high, u=uniform: low + (high - low) * float(next(u)))
        monkeypatch.setattr(random, "randint", lambda low, high, u=corner: int(float(next(u)) * (high + 1)))
        expected = timm_data.transforms.RandomResizedCropAndInterpolation.get_params(
            (width, height), PAPER.crop_scale, PAPER.crop_ratio
        )
        ours = samples.random_window(PAPER, tf.constant(height), tf.constant(width), tf.constant(row)).numpy()
        differing += (np.abs(ours - expected) > 0).any()
        np.testing.assert_allclose(ours, expected, atol=1)
    assert differing <= 2  # a half rounds up in float32 and down in float64


def test_erased_rectangles_equal_timm_for_the_same_draws(timm_data, monkeypatch):
    theirs = timm_data.random_erasing.RandomErasing(probability=1.0, mode="pixel", device="cpu")
    for row in np.random.default_rng(1).uniform(size=(20, samples.ERASING_DRAWS)).astype("float32"):
        uniform = iter([u for pair in zip(row[1:11], row[11:21], strict=True) for u in pair])
        corner = iter(row[21:])
        monkeypatch.setattr(random, "random", lambda: 0.0)
        monkeypatch.setattr(random, "uniform", lambda low, high, u=uniform: low + (high - low) * float(next(u)))
        monkeypatch.setattr(random, "randint", lambda low, high, u=corner: int(float(next(u)) * (high + 1)))
        erased = theirs(torch.full((3, 240, 224), 7.0)).numpy()[0] != 7.0
        (top, left, height, width), is_fitting = samples.erased_rectangle(240, 224, tf.constant(row[1:]))
        ours = np.zeros((240, 224), bool)
        ours[int(top) : int(top + height), int(left) : int(left + width)] = bool(is_fitting)
        assert np.mean(ours != erased) < 0.01  # a side rounds the other way in float32


@pytest.mark.parametrize("fraction", [0.3, 0.9])
@pytest.mark.parametrize("is_cutmix", [False, True])
def test_mixed_images_and_targets_equal_timm(timm_data, fraction, is_cutmix, monkeypatch):
    config = kc.variant_config("crossvit_9_dagger", num_classes=5, img_size=(48, 32))
    images = np.random.default_rng(0).normal(size=(2, 48, 48, 3)).astype("float32")
    labels = [1, 4]
    centres = iter([13, 40])
    monkeypatch.setattr(np.random, "randint", lambda *_, **__: np.array(next(centres)))
    monkeypatch.setattr(np.random, "rand", lambda *_: 0.0 if is_cutmix else 0.9)
    monkeypatch.setattr(np.random, "beta", lambda *_, **__: fraction)
    mixup = timm_data.mixup.Mixup(0.8, 1.0, num_classes=5, label_smoothing=0.1, prob=1.1)
    expected, target = mixup(torch.tensor(images).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels))

    places = iter([13, 40])
    draws = types.SimpleNamespace(
        uniform=lambda size: np.zeros(size) if is_cutmix else np.ones(size),
        beta=lambda *_: np.array([fraction]),
        randint=lambda *_: np.array([next(places)]),
    )
    monkeypatch.setattr(np.random, "RandomState", lambda seed: draws)
    plan = mixing_plan(PAPER, 1, 48, 48, seed=0, epoch=0)
    mixing = {name: tf.repeat(tf.constant(value), 2, axis=0) for name, value in vars(plan).items()}
    targets = tf.stack([samples.smoothed_target(tf.constant(label), 5, 0.1) for label in labels])
    (ours, _), our_targets = mix_and_resize(tf.constant(images), targets, mixing, config)
    np.testing.assert_allclose(ours, expected.permute(0, 2, 3, 1).numpy(), atol=1e-6)
    np.testing.assert_allclose(our_targets, target.numpy(), atol=1e-6)
