import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.exporting.options import resolve_options
from keras_crossvit.exporting.tracing import float32_copy
from tests.helpers.backends import call
from tests.helpers.exports import small_model
from tests.helpers.models import images


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.mark.parametrize(
    ("file", "name"), [("a.tflite", "litert"), ("a.xml", "openvino"), ("a.b.onnx", "onnx"), ("a", "saved_model")]
)
def test_format_is_given_by_name_or_suffix(file, name):
    assert resolve_options(Path(file), format=name).format.name == name
    if name != "saved_model":
        assert resolve_options(Path(file)).format.name == name


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("model", {}, ".tflite, .xml, .onnx"),
        ("model.tflite", {"format": "litret"}, "did you mean 'litert'?"),
        ("model.onnx", {"format": "litert"}, ".tflite"),
        ("model.onnx", {"precision": "float16"}, "onnx does not support precision 'float16'; it only writes float32."),
        ("model.tflite", {"precision": "bfloat16"}, "'bfloat16'; use float32 or float16."),
        ("model.tflite", {"quantize": "int8"}, "'int8'; use dynamic-int8."),
        ("model.onnx", {"quantize": "dynamic-int8"}, "'dynamic-int8'; leave quantize out."),
        ("model.xml", {"quantize": "dynamic-int8"}, "'dynamic-int8'; use int8-weights."),
        ("model.tflite", {"precision": "float16", "quantize": "dynamic-int8"}, "'float16' cannot be combined"),
        ("model.tflite", {"batch_size": 0}, "batch_size 0"),
        ("model.tflite", {"batch_size": "two"}, "batch_size 'two'"),
        ("model", {"format": "saved_model", "batch_size": 4}, "batch_size 4"),
        ("model", {"format": "saved_model", "version": -1}, "version -1"),
        ("model.tflite", {"version": 2}, "version 2"),
        ("model.tflite", {"threads": 0}, "threads 0"),
        ("model.tflite", {"images": "nowhere"}, "'nowhere'"),
        ("model.tflite", {"images": []}, "images is empty"),
        ("model.tflite", {"images": [np.full((9, 9, 3), np.nan)]}, "not finite"),
    ],
)
def test_mistakes_are_reported_in_one_line_before_any_work(file, options, message, model, tmp_path):
    with pytest.raises((ValueError, OSError), match=r".") as error:
        kc.export(model, tmp_path / file, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_missing_library_is_named_with_the_command_that_installs_it(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"tf2onnx is not installed.*pip install"):
        kc.export(model, tmp_path / "model.onnx")


def test_only_a_crossvit_is_exported(model, tmp_path):
    with pytest.raises(TypeError, match="Functional"):
        kc.export(kc.feature_extractor(model), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["crossvit_9", "out.tflite"], "--weights"),
        (["crossvit_9", "out.tflite", "--serving-files"], "--format saved_model"),
    ],
)
def test_command_names_the_missing_option(words, message, capsys):
    assert cli.main(["export", *words]) == cli.EXIT_MISTAKE
    assert message in capsys.readouterr().err


def test_command_lists_precisions_and_quantizations(capsys):
    for option in ("--precision", "--quantize", "--format"):
        with pytest.raises(SystemExit):
            cli.main(["export", "model.keras", "out.tflite", option, "float8"])
    shown = capsys.readouterr().err
    for choice in ("float32", "float16", "bfloat16", "dynamic-int8", "int8-weights", "saved_model", "openvino"):
        assert choice in shown


def test_model_without_classifier_is_only_exported_as_a_saved_model(tmp_path):
    with pytest.raises(ValueError, match="num_classes=0"):
        kc.export(small_model(num_classes=0, class_names=None), tmp_path / "model.onnx")


def test_mixed_precision_becomes_float32_and_the_model_stays_as_it_was(model):
    mixed = small_model(dtype="mixed_bfloat16", classifier_activation="softmax")
    mixed.set_weights(model.get_weights())
    copy = float32_copy(mixed)
    logits = keras.Model(copy.inputs, copy.get_layer("logits").output)
    inputs = images(model)
    np.testing.assert_allclose(call(logits, inputs), call(model, inputs), rtol=0, atol=1e-6)
    assert (copy.name, copy.class_names) == (mixed.name, mixed.class_names)
    assert mixed.get_layer("logits").compute_dtype == keras.config.dtype_policy().name == "float32"
    assert float32_copy(model) is model
