import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.exporting import sample_images
from keras_crossvit.exporting.sample_images import comparison_inputs

CONFIG = kc.variant_config("crossvit_9_dagger", img_size=(48, 32))


def gray(value):
    return np.full((4, 5, 3), value, "uint8")


def require_equal(inputs, values):
    for one, other in zip(inputs, kc.preprocess([gray(value) for value in values], CONFIG), strict=True):
        np.testing.assert_array_equal(one, other)


def test_images_of_a_folder_are_used_and_other_files_skipped(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        comparison_inputs(tmp_path, CONFIG)
    Image.fromarray(gray(7)).save(tmp_path / "gray.png")
    (tmp_path / "notes.txt").write_text("not an image")
    inputs, description = comparison_inputs(tmp_path, CONFIG)
    require_equal(inputs, [7])
    assert str(tmp_path) in description


def test_a_large_folder_is_sampled_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_images, "MAX_IMAGES", 4)
    for i in range(10):
        Image.fromarray(gray(20 * i)).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_text("damaged, so another one replaces it")
    read, read_image = [], sample_images.read_image
    monkeypatch.setattr(sample_images, "read_image", lambda file: read.append(file.name) or read_image(file))
    inputs, description = comparison_inputs(tmp_path, CONFIG)
    assert read == ["0.png", "3.png", "6.png", "9.png", "1.png"]
    require_equal(inputs, [0, 120, 180, 20])
    assert description.startswith("4 evenly spaced")


@pytest.mark.parametrize("form", [gray(9), gray(9)[None], [gray(9)], Image.fromarray(gray(9))], ids=lambda form: "")
def test_images_may_have_any_form_that_preprocess_takes(form):
    require_equal(comparison_inputs(form, CONFIG)[0], [9])


def test_images_are_generated_for_channels_that_no_photograph_has():
    config = kc.variant_config("crossvit_9_dagger", img_size=(312, 272), in_channels=4)
    inputs, description = comparison_inputs(None, config)
    assert description == "generated images"
    assert [each.shape for each in inputs] == [(8, 312, 312, 4), (8, 272, 272, 4)]
    image = inputs[0][0]
    # As in photographs, neighbors are alike and distant pixels are not.
    near, far = (np.abs(image[distance:] - image[:-distance]).mean() for distance in (1, 100))
    assert near < 0.6 * far
