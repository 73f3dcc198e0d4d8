"""The layer against `kc.preprocess`, on every backend."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

import keras_crossvit as kc
from keras_crossvit.layers import Preprocessing
from keras_crossvit.preprocessing.transforms import IMAGENET_STD
from tests.helpers.backends import call
from tests.helpers.models import tiny

pytestmark = pytest.mark.backends
only_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="dataset.map")
CONFIG = kc.variant_config("crossvit_9_dagger", num_classes=3, img_size=((48, 36), (32, 16)))
ONE_LEVEL = 1.001 / 255 / min(IMAGENET_STD)  # of 255, after normalization
# Sizes that are enlarged, reduced, and resized by factors that leave odd margins.
SHAPES = [(20, 30), (90, 61), (61, 90), (48, 36), (2, 200), (131, 5)]


def in_numpy(outputs):
    return [keras.ops.convert_to_numpy(each) for each in outputs]


def image(shape, channels=3):
    return np.random.default_rng(0).integers(0, 256, (*shape, channels), dtype="uint8")


def assert_like_preprocess(found, images, config=CONFIG, **options):
    expected = kc.preprocess(images, config, **options)
    if images.dtype == np.uint8:  # a value between two levels may be rounded to the other one
        unlike = np.abs(found[0] - expected[0])
        assert unlike.max() < ONE_LEVEL
        assert np.mean(unlike > 1e-5) < 5e-3
        np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=2 * ONE_LEVEL)
    else:  # sums of float32 values up to 255
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["crossvit_9_dagger", "crossvit_15_dagger_408"])
def test_photographs_differ_from_pillow_as_stated(name):
    config = kc.variant_config(name)
    for photograph in load_sample_images().images:
        small = in_numpy(Preprocessing(config)(photograph[None]))[0]
        levels = np.abs(small - kc.preprocess(photograph, config)[0]) * np.array(IMAGENET_STD) * 255
        assert np.mean(levels > 0.5) < 3e-4
        assert levels.max() < 1.001
        small = in_numpy(Preprocessing(config)(photograph[None].astype("float32")))[0]
        levels = np.abs(small - kc.preprocess(photograph.astype("float32"), config)[0]) * np.array(IMAGENET_STD) * 255
        assert levels.max() < 2e-4


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_images_of_any_size_equal_preprocess(shape, dtype):
    images = np.stack([image(shape), image(shape)[::-1]]).astype(dtype)
    layer = Preprocessing(CONFIG)
    found = in_numpy(layer(images))
    assert [each.shape for each in found] == list(layer.compute_output_shape(images.shape))
    assert_like_preprocess(found, images)
    single = in_numpy(layer(images[1]))
    for one, batch in zip(single, found, strict=True):
        np.testing.assert_allclose(one, batch[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("channels", "in_channels"), [(1, 3), (3, 1), (1, 1), (4, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_channels_are_those_of_the_model(channels, in_channels, dtype):
    config = kc.variant_config("crossvit_9_dagger", img_size=(48, 32), in_channels=in_channels)
    images = image((70, 90), channels)[None].astype(dtype)
    assert_like_preprocess(in_numpy(Preprocessing(config, crop_fraction=1)(images)), images, config, crop_fraction=1)


def test_what_it_cannot_take_is_refused():
    with pytest.raises(ValueError, match=r"4 channels.*in_channels=4"):
        Preprocessing(CONFIG)(image((50, 50), 4)[None])
    with pytest.raises(ValueError, match=r"crop_fraction 1\.5"):
        Preprocessing(CONFIG, crop_fraction=1.5)
    with pytest.raises(TypeError, match="Expected a CrossViT, got int"):
        Preprocessing(240)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_rounds_only_the_result(policy):
    images = image((60, 80))[None]
    found = Preprocessing(CONFIG, dtype=policy)(images)
    assert {keras.backend.standardize_dtype(each.dtype) for each in found} == {policy.removeprefix("mixed_")}
    whole = in_numpy(Preprocessing(CONFIG)(images))
    for one, other in zip(found, whole, strict=True):
        in_half = keras.ops.convert_to_numpy(keras.ops.cast(one, "float32"))
        np.testing.assert_allclose(in_half, other, rtol=2**-8, atol=1e-6)  # bfloat16 has 8 bits


def test_a_model_takes_raw_images_through_the_layer():
    model = tiny(num_classes=3)
    raw = keras.Input((None, None, 3), dtype="uint8", name="image")
    whole = keras.Model(raw, model(Preprocessing(model)(raw)))
    images = image((60, 80))[None]
    expected = call(model, kc.preprocess(images, model))
    np.testing.assert_allclose(call(whole, images), expected, rtol=0, atol=0.01 * np.abs(expected).max())


@only_tensorflow
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_dataset_map_takes_single_images_and_batches_of_unknown_size(dtype):
    import tensorflow as tf

    layer = Preprocessing(CONFIG)
    for shape in SHAPES[::2]:
        images = np.stack([image(shape), image(shape)[:, ::-1]]).astype(dtype)
        for given, axes in ((images, 4), (images[0], 3)):
            spec = tf.TensorSpec((*[None] * (axes - 1), 3), dtype)
            dataset = tf.data.Dataset.from_generator(lambda given=given: iter([given]), output_signature=spec)
            mapped = dataset.map(layer)
            assert [each.shape[-3:] for each in mapped.element_spec] == [(48, 36, 3), (32, 16, 3)]
            (found,) = mapped.as_numpy_iterator()
            assert_like_preprocess([each.reshape(-1, *each.shape[-3:]) for each in found], given)
