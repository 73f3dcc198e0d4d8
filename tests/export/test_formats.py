"""What one may ask an export for; each mistake is answered before any work."""

import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit import cli
from keras_crossvit.export.formats import find_format
from keras_crossvit.export.sample_pictures import comparison_pictures
from keras_crossvit.export.tracing import in_float32
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
        ("model.onnx", {"quantize": "float16"}, "has no other precision"),
        ("model.xml", {"quantize": "dynamic-int8"}, "has float16, bfloat16, int8-weights"),
        ("model.tflite", {"batch_size": 0}, "batch_size 0 is too small"),
        ("model", {"format": "saved_model", "batch_size": 4}, "takes any number"),
        ("model.tflite", {"threads": 0}, "threads 0 is too small"),
        ("model.tflite", {"pictures": "nowhere"}, "no folder 'nowhere'"),
        ("model.tflite", {"pictures": []}, "images is empty"),
        ("model.tflite", {"pictures": [np.full((9, 9, 3), np.nan)]}, "not finite"),
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
        in_float32(small_model(num_classes=0, classes=None))
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


def test_pictures_of_a_folder_are_compared_on_and_other_files_passed_over(tmp_path):
    with pytest.raises(ValueError, match="has no picture that can be read"):
        comparison_pictures(tmp_path, 3)
    Image.new("RGB", (5, 4)).save(tmp_path / "black.png")
    (tmp_path / "notes.txt").write_text("no picture")
    pictures, described = comparison_pictures(tmp_path, 3)
    assert [each.shape for each in pictures] == [(4, 5, 3)]
    assert str(tmp_path) in described


def test_pictures_are_drawn_where_no_photograph_fits():
    pictures, described = comparison_pictures(None, 4)
    assert described == "drawn pictures"
    assert {(each.shape, each.dtype.name) for each in pictures} == {((320, 320, 4), "uint8")}
    picture = pictures[0].astype(float)
    # As in photographs, neighbours are alike and distant pixels are not.
    near, far = (np.abs(picture[distance:] - picture[:-distance]).mean() for distance in (1, 100))
    assert near < 0.6 * far
