import dataclasses
import re
import zlib

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import keras_crossvit as kc
from keras_crossvit.preprocessing.transforms import IMAGENET_MEAN, IMAGENET_STD
from tests.helpers import reference

CONFIG = kc.variant_config("crossvit_9_dagger", img_size=(48, 32))


@pytest.fixture(scope="module")
def photographs():
    return dict(zip(("china", "flower"), load_sample_images().images, strict=True))


@pytest.mark.parametrize("name", ["crossvit_9_dagger", "crossvit_15_dagger_408"])
def test_photographs_equal_the_reference_transform(name, photographs):
    size = kc.variant_config(name).img_size[0]
    small, large = kc.preprocess(list(photographs.values()), kc.variant_config(name))
    for image, small_patch, large_patch in zip(photographs, small, large, strict=True):
        stored = f"eval/{image}/{size}"
        np.testing.assert_array_equal(
            small_patch[::8, ::8], reference.surroundings()[f"{stored}/small_patch_every_8th"]
        )
        # float32 in another order of summation, over values up to 2.6
        expected = reference.surroundings()[f"{stored}/large_patch_every_8th"]
        np.testing.assert_allclose(large_patch[::8, ::8], expected, rtol=0, atol=5e-6)


def test_tall_images_do_not_depend_on_the_version_of_pillow():
    tall = np.random.RandomState(0).randint(0, 256, (701, 200, 3)).astype("uint8")
    values = kc.preprocess(tall, CONFIG)[0] * np.array(IMAGENET_STD) + IMAGENET_MEAN
    # The result of Pillow 11.3 and 12.0 in one call; Pillow 13.0 differs in 15 % of the values.
    assert zlib.crc32(np.round(255 * values[0]).astype("uint8").tobytes()) == 1332207198


@pytest.mark.parametrize("shape", [(90, 61), (61, 90), (20, 31), (48, 48), (1, 700), (700, 1), (2, 2)])
def test_crop_equals_that_of_the_whole_resized_image(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype="uint8")
    height, width = shape
    new_height, new_width = (54, int(54 * width / height)) if height <= width else (int(54 * height / width), 54)
    by_width = Image.fromarray(image).resize((new_width, height), Image.Resampling.BICUBIC)
    whole = np.asarray(by_width.resize((new_width, new_height), Image.Resampling.BICUBIC))
    top, left = round((new_height - 48) / 2), round((new_width - 48) / 2)
    values = kc.preprocess(image, CONFIG)[0][0] * np.array(IMAGENET_STD) + IMAGENET_MEAN
    np.testing.assert_array_equal(np.round(255 * values), whole[top : top + 48, left : left + 48])


@pytest.mark.parametrize("shape", [(1, 500_000), (500_000, 1)])
def test_too_narrow_images_are_refused_before_resizing(shape, monkeypatch):
    monkeypatch.setattr(Image.Image, "resize", None)
    with pytest.raises(ValueError, match=rf"{shape[1]} x {shape[0]} pixels is too narrow: .* 27000000 pixels long"):
        kc.preprocess(np.zeros((*shape, 3), "uint8"), CONFIG)


def test_pixel_limit_of_pillow_may_be_switched_off(photographs, monkeypatch):
    expected = kc.preprocess(photographs["china"], CONFIG)[0]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    np.testing.assert_array_equal(kc.preprocess(photographs["china"], CONFIG)[0], expected)


def test_images_of_any_form_give_the_same_result(photographs, tmp_path):
    array = photographs["china"]
    expected = kc.preprocess(array, CONFIG)
    assert [each.shape for each in expected] == [(1, 48, 48, 3), (1, 32, 32, 3)]
    assert {each.dtype for each in expected} == {np.dtype("float32")}
    path = tmp_path / "china.png"
    Image.fromarray(array).save(path)
    for form in (array[None], [array], (Image.fromarray(array),), Image.fromarray(array), path, [str(path)]):
        for one, other in zip(kc.preprocess(form, CONFIG), expected, strict=True):
            np.testing.assert_array_equal(one, other)
    in_floats = kc.preprocess(array.astype("float64"), CONFIG)
    # Integers are rounded twice, after rows and after columns, floats never.
    assert 0 < np.abs(in_floats[0] - expected[0]).max() < 1.01 / 255 / min(IMAGENET_STD)


def test_model_and_configuration_give_the_same_result(photographs):
    model = kc.build_crossvit(CONFIG)
    for one, other in zip(*(kc.preprocess(photographs["china"], each) for each in (model, CONFIG)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_channels_are_repeated_or_converted_to_grayscale(photographs):
    gray = np.asarray(Image.fromarray(photographs["china"]).convert("L"))
    colour_of_gray = kc.preprocess(gray, CONFIG)[0]
    values = colour_of_gray * IMAGENET_STD + IMAGENET_MEAN
    np.testing.assert_allclose(values[..., 0], values[..., 2], atol=1e-6)
    one_channel = kc.variant_config("crossvit_9_dagger", img_size=(48, 32), in_channels=1)
    of_gray, of_colour = (kc.preprocess(each, one_channel)[0] for each in (gray, photographs["china"]))
    assert of_gray.shape == (1, 48, 48, 1)
    assert np.abs(of_gray - of_colour).max() < 1.5 / 255 / 0.225  # gray values are rounded before resizing


def test_images_of_different_sizes_fill_non_square_inputs():
    config = kc.variant_config("crossvit_9_dagger", img_size=((96, 48), (64, 32)))
    ramp = np.tile(np.linspace(0, 255, 400, dtype="uint8")[:, None, None], (1, 90, 3))
    small, large = kc.preprocess([ramp, ramp[:33], ramp[:1, :1]], config)
    assert small.shape == (3, 96, 48, 3)
    assert large.shape == (3, 64, 32, 3)
    middle = small[0, :, 24, 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]
    assert (np.diff(middle) >= 0).all()
    assert middle[48] == pytest.approx(0.5, abs=0.01)


def test_crop_fraction_1_keeps_the_whole_image():
    image = np.zeros((8, 8, 1), "uint8")
    image[0] = 255
    with_margin, whole = (kc.preprocess(image, CONFIG, crop_fraction=each)[0] for each in (0.5, 1.0))
    assert with_margin.max() < 0 < whole[0, 0].max()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "images is empty"),
        (np.zeros((0, 8, 8, 3), "uint8"), "images is empty"),
        (np.zeros((8,), "uint8"), "images of shape (8,)"),
        (np.zeros((0, 8, 3), "uint8"), "shape (0, 8, 3)"),
        (np.zeros((8, 8, 4), "uint8"), "4 channels"),
        (np.full((8, 8, 3), np.nan), "not finite"),
        (np.full((8, 8, 3), -2.1), "values from -2.1"),
        (np.full((8, 8, 3), 256.0), "to 256"),
        (np.full((8, 8, 3), 0.5), "up to 0.5"),
    ],
)
def test_invalid_images_are_refused(images, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        kc.preprocess(images, CONFIG)


@pytest.mark.parametrize(
    ("image", "in_channels", "remedy"),
    [
        (np.zeros((3, 9, 8), "uint8"), 3, r"8 channels.*numpy\.moveaxis\(image, 0, -1\)"),
        (np.zeros((2, 1, 9, 8), "uint8"), 1, r"8 channels.*numpy\.moveaxis"),
        (np.zeros((9, 8, 4), "uint8"), 3, r"4 channels.*PIL\.Image\.fromarray"),
        (np.zeros((9, 8, 4), "uint8"), 1, r"4 channels.*PIL\.Image\.fromarray"),
        (Image.new("RGBA", (8, 9)), 4, "3 channels.*pass an array of 4"),
        (np.zeros((9, 8, 2), "uint8"), 3, "2 channels.*in_channels=2"),
    ],
)
def test_other_channels_have_their_remedy(image, in_channels, remedy):
    with pytest.raises(ValueError, match=remedy):
        kc.preprocess(image, dataclasses.replace(CONFIG, in_channels=in_channels))


def test_invalid_crop_fraction_is_refused():
    with pytest.raises(ValueError, match=r"crop_fraction 1\.5"):
        kc.preprocess(np.zeros((8, 8, 3), "uint8"), CONFIG, crop_fraction=1.5)
