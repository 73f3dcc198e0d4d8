"""What one may ask an export for; each mistake is answered before any work."""

import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.exporting import sample_images
from keras_crossvit.exporting.formats import find_format
from keras_crossvit.exporting.sample_images import comparison_inputs
from keras_crossvit.exporting.tracing import in_float32
from tests.helpers.backends import call
from tests.helpers.exports import small_model
from tests.helpers.models import images


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.mark.parametrize(
    ("file", "name"), [("a.tflite", "litert"), ("a.xml", "openvino"), ("a.b.onnx", "onnx"), ("a", "saved_model")]
)
def test_format_is_told_by_name_or_suffix(file, name):
    assert find_format(name, file).name == name
    if name != "saved_model":
        assert find_format(None, file).name == name


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("model", {}, "does not tell its format; end it in .tflite, .xml, .onnx"),
        ("model.tflite", {"format": "litret"}, "did you mean 'litert'?"),
        ("model.onnx", {"format": "litert"}, "does not end in .tflite"),
        ("model.tflite", {"quantize": "int8"}, "relative rms error of 0.09; use dynamic-int8"),
        ("model.onnx", {"quantize": "float16"}, "leave it out: it writes float32 alone"),
        ("model.xml", {"quantize": "dynamic-int8"}, "use one of float16, bfloat16, int8-weights, or"),
        ("model.tflite", {"batch_size": 0}, "batch_size 0 is too small"),
        ("model.tflite", {"batch_size": "two"}, "batch_size 'two' is not an integer"),
        ("model", {"format": "saved_model", "batch_size": 4}, "takes any number"),
        ("model.tflite", {"threads": 0}, "threads 0 is too small"),
        ("model.tflite", {"images": "nowhere"}, "no folder 'nowhere'"),
        ("model.tflite", {"images": []}, "images is empty"),
        ("model.tflite", {"images": [np.full((9, 9, 3), np.nan)]}, "not finite"),
    ],
)
def test_mistakes_are_answered_before_any_work(file, options, message, model, tmp_path):
    with pytest.raises((ValueError, OSError), match=r".") as error:
        kc.export(model, tmp_path / file, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_missing_library_is_named_with_the_command_that_installs_it(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r'tf2onnx is not installed.*"keras_crossvit\[onnx\]"'):
        kc.export(model, tmp_path / "model.onnx")


def test_other_model_than_a_crossvit_is_refused(model, tmp_path):
    with pytest.raises(TypeError, match="export takes a CrossViT, not a Functional"):
        kc.export(kc.single_image(model), tmp_path / "model.onnx")


def test_published_name_without_weights_is_refused(capsys):
    assert cli.main(["export", "crossvit_9", "out.tflite"]) == cli.EXIT_MISTAKE
    assert "crossvit_9 has no weights; give a file of them by --weights" in capsys.readouterr().err


def test_model_without_classes_or_with_quantized_weights_is_refused():
    with pytest.raises(ValueError, match="has no classes and so no logits"):
        in_float32(small_model(num_classes=0, class_names=None))
    quantized = small_model()
    quantized.get_layer("small_patch_head").quantize("int8")
    with pytest.raises(ValueError, match="has been quantized by Keras"):
        in_float32(quantized)


def test_mixed_precision_and_activation_are_left_behind(model):
    mixed = small_model(dtype="mixed_bfloat16", classifier_activation="softmax")
    mixed.set_weights(model.get_weights())
    inputs = images(model)
    np.testing.assert_allclose(call(in_float32(mixed), inputs), call(model, inputs), rtol=0, atol=1e-6)
    assert keras.config.dtype_policy().name == "float32"


def gray(value):
    return np.full((4, 5, 3), value, "uint8")


def test_images_of_a_folder_are_compared_on_and_other_files_passed_over(model, tmp_path):
    with pytest.raises(ValueError, match="has no picture that can be read"):
        comparison_inputs(tmp_path, model.config)
    Image.fromarray(gray(7)).save(tmp_path / "gray.png")
    (tmp_path / "notes.txt").write_text("no picture")
    inputs, described = comparison_inputs(tmp_path, model.config)
    for one, other in zip(inputs, kc.preprocess(gray(7), model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert described == f"pictures in {tmp_path}"


def test_of_a_large_folder_some_images_are_read_evenly_spread(model, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_images, "MAX_IMAGES", 4)
    for i in range(10):
        Image.fromarray(gray(20 * i)).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_text("damaged, and the next one is taken")
    read = []
    reading = sample_images.read_image
    monkeypatch.setattr(sample_images, "read_picture", lambda file: read.append(file.name) or reading(file))
    inputs, described = comparison_inputs(tmp_path, model.config)
    assert read == ["0.png", "3.png", "6.png", "9.png", "1.png"]
    wanted = kc.preprocess([gray(20 * i) for i in (0, 6, 9, 1)], model)
    for one, other in zip(inputs, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    assert described == f"4 pictures, evenly spread, in {tmp_path}"


@pytest.mark.parametrize("form", [gray(9), gray(9)[None], [gray(9)], Image.fromarray(gray(9))], ids=lambda form: "")
def test_images_are_given_in_any_form_of_preprocess(form, model):
    inputs, described = comparison_inputs(form, model.config)
    assert described == "the pictures given"
    for one, other in zip(inputs, kc.preprocess(gray(9), model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_images_are_drawn_where_no_photograph_fits():
    config = kc.variant_config("crossvit_9_dagger", img_size=(312, 272), in_channels=4)
    inputs, described = comparison_inputs(None, config)
    assert described == "drawn pictures"
    assert [each.shape for each in inputs] == [(8, 312, 312, 4), (8, 272, 272, 4)]
    image = inputs[0][0]
    # As in photographs, neighbours are alike and distant pixels are not.
    near, far = (np.abs(image[distance:] - image[:-distance]).mean() for distance in (1, 100))
    assert near < 0.6 * far
