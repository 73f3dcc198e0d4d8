import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tensorflow.python.tools import saved_model_cli

import keras_crossvit as kc
from keras_crossvit.exporting import exporter, saved_model_writer
from keras_crossvit.exporting.serving_requests import drawn_image
from tests.helpers.backends import call
from tests.helpers.models import images, tiny


@pytest.fixture
def model():
    return tiny(class_names=list("abcde"))


def test_export_writes_the_version_and_nothing_else(letters):
    model, exported = letters
    assert exported.path.name == "1"
    assert {each.name for each in exported.path.iterdir()} >= {"saved_model.pb", "variables", "export_report.json"}
    assert [each.name for each in exported.path.parent.iterdir()] == ["1"]
    assert (exported.path / "export_report.json").read_text() == exported.to_json()
    assert exported.relative_rms <= 1e-5
    assert exported.latency_ms > 0 < exported.keras_latency_ms
    stored = tf.train.list_variables(str(exported.path / "variables" / "variables"))
    assert sum(math.prod(shape) for _, shape in stored if shape) == model.count_params()  # every weight once


def test_model_without_classifier_is_exported_with_its_features(tmp_path):
    result = kc.export(tiny(num_classes=0), tmp_path / "features", format="saved_model", version=3)
    assert result.path == tmp_path / "features" / "3"
    outputs = tf.saved_model.load(str(result.path)).signatures["serving_default"].structured_outputs
    assert {name: spec.shape.as_list() for name, spec in outputs.items()} == {"pre_logits": [None, 40]}
    assert result.relative_rms <= 1e-5


def test_saved_model_cli_shows_the_signatures_and_runs_them(letters, tmp_path, monkeypatch, capsys):
    model, exported = letters
    inputs = images(model, batch=2, seed=1)
    np.savez(tmp_path / "inputs.npz", small=inputs[0], large=inputs[1])
    named = f"small_patch_image={tmp_path}/inputs.npz[small];large_patch_image={tmp_path}/inputs.npz[large]"
    signature = ["--tag_set", "serve", "--signature_def", "serving_default"]
    for words in (["show", "--all"], ["run", *signature, "--inputs", named, "--outdir", str(tmp_path)]):
        monkeypatch.setattr("sys.argv", ["saved_model_cli", *words, "--dir", str(exported.path)])
        with pytest.raises(SystemExit) as end:
            saved_model_cli.main()
        assert not end.value.code
    shown = capsys.readouterr().out
    for line in (
        "signature_def['serving_default']",
        "inputs['small_patch_image']",
        "inputs['large_patch_image']",
        "shape: (-1, 48, 48, 3)",
        "shape: (-1, 32, 32, 3)",
        "outputs['logits']",
        "outputs['probabilities']",
        "shape: (-1, 5)",
        "signature_def['single_image']",
        "signature_def['single_image_float']",
        "inputs['image']",
        "shape: (-1, -1, -1, 3)",
        "signature_def['image_bytes']",
        "inputs['image_bytes']",
        "outputs['class_ids']",
        "outputs['class_names']",
        "outputs['valid']",
    ):
        assert line in shown
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), call(model, inputs), rtol=0, atol=1e-5)


def test_next_version_is_chosen_and_an_existing_one_never_replaced(stand_in, model, tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    assert stand_in.export(model, tmp_path).path.name == "8"
    with pytest.raises(FileExistsError, match=r"'.*8'"):
        stand_in.export(model, tmp_path, version=8, overwrite=True)


@pytest.mark.parametrize(
    ("signature", "output", "difference", "message"),
    [
        ("serving_default", "logits", 1e-3, r"logits of serving_default .* 0.001 "),
        ("serving_default", "logits", 5e-6, r"letters/1' .* 1e-05"),  # relative to logits of at most 0.3
        ("image_bytes", "valid", True, r"valid of image_bytes .* 1 "),
    ],
)
def test_saved_model_that_differs_is_not_written(signature, output, difference, message, stand_in, model, tmp_path):
    def disturb(outputs):
        array = outputs[signature][output]
        outputs[signature][output] = ~array if array.dtype == bool else array + difference

    stand_in.disturb = disturb
    assert np.abs(call(model, images(model))).max() < 0.3
    with pytest.raises(RuntimeError, match=message):
        stand_in.export(model, tmp_path / "letters")
    assert list((tmp_path / "letters").iterdir()) == []


@pytest.mark.parametrize("step", ["disturb", "latencies"])
def test_interrupt_leaves_nothing(step, stand_in, model, tmp_path):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    setattr(stand_in, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        stand_in.export(model, tmp_path / "letters")
    assert list((tmp_path / "letters").iterdir()) == []


def test_mixed_precision_is_written_in_float32(stand_in, model, tmp_path):
    mixed = tiny(class_names=list("abcde"), dtype="mixed_bfloat16")
    mixed.set_weights(model.get_weights())
    result = stand_in.export(mixed, tmp_path / "letters")
    (written,) = stand_in.written
    assert written.get_layer("stage_0_small_patch_block_0").attention.qkv.compute_dtype == "float32"
    np.testing.assert_allclose(call(written, images(model)), call(model, images(model)), rtol=0, atol=1e-6)
    assert result.relative_rms < 1e-6


def test_quantized_model_is_refused_before_anything_is_written(model, tmp_path):
    model.get_layer("small_patch_head").quantize("int8")
    with pytest.raises(ValueError, match=r"quantized by Keras.*--precision"):
        kc.export(model, tmp_path / "letters", format="saved_model")
    assert list(tmp_path.iterdir()) == []


class StandIn:
    """Replaces writing, the fresh process and latencies, which have tests of their own.

    `written` are the models that were written; `disturb` may change the outputs of the fresh process.
    """

    def __init__(self):
        self.written = []
        self.disturb = lambda outputs: None
        self.latencies = lambda *arguments: dict.fromkeys(
            ("latency_ms", "keras_latency_ms", "latency_batch_size", "threads"), 1
        )

    def write(self, model, path, requests, functions):
        self.written.append(model)
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"a graph")
        return self._outputs(requests)

    def run(self, path, requests):
        assert (path / "saved_model.pb").is_file()
        outputs = self._outputs(requests)
        self.disturb(outputs)
        return outputs

    def _outputs(self, requests):
        logits = call(self.written[-1], list(requests["serving_default"].values()))
        return {"serving_default": {"logits": logits}, "image_bytes": {"valid": np.array([True, False])}}

    @staticmethod
    def export(model, folder, **options):
        return kc.export(model, folder, format="saved_model", images=[drawn_image()], **options)


@pytest.fixture
def stand_in(monkeypatch):
    replaced = StandIn()
    monkeypatch.setattr(saved_model_writer, "_write", replaced.write)
    monkeypatch.setattr(saved_model_writer, "run_saved_model", replaced.run)
    monkeypatch.setattr(exporter, "_latencies", lambda *arguments: replaced.latencies(*arguments))
    return replaced


def test_keras_layer_of_a_saved_model_takes_both_images(letters, tmp_path):
    model, exported = letters
    inputs = [keras.Input(each.shape[1:]) for each in model.inputs]
    layer = keras.layers.TFSMLayer(str(exported.path), call_endpoint="serve")
    wrapper = keras.Model(inputs, layer(inputs))
    pair = images(model, batch=3, seed=5)
    np.testing.assert_allclose(wrapper.predict(pair, verbose=0), call(model, pair), rtol=0, atol=1e-5)


def test_input_signature_of_keras_export_must_be_nested(model, tmp_path):
    """docs/troubleshooting.md says so; remove it there if a flat list works."""
    signature = [tf.TensorSpec((None, *each.shape[1:]), "float32") for each in model.inputs]
    model.export(tmp_path / "nested", input_signature=[signature], verbose=False)
    with pytest.raises(Exception, match="named input"):
        model.export(tmp_path / "flat", input_signature=signature, verbose=False)


def test_tf_saved_model_save_names_inputs_by_position(model, tmp_path):
    """docs/troubleshooting.md says so; remove it there if the names of the inputs are kept."""
    tf.saved_model.save(model, str(tmp_path / "saved"))
    _, named = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"].structured_input_signature
    assert set(named) == {"inputs", "inputs_1"}


@pytest.mark.parametrize("source", ["saved_model", "keras_model", "concrete_functions"])
def test_converter_of_tensorflow_needs_a_saved_model_or_the_model(source, model, letters, capfd):
    """docs/troubleshooting.md says so; remove it there if concrete functions give the model's outputs."""
    if source == "saved_model":
        model, exported = letters
    pair = images(model, batch=1)
    if source == "saved_model":
        converter = tf.lite.TFLiteConverter.from_saved_model(str(exported.path), signature_keys=["serving_default"])
    elif source == "keras_model":
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
    else:
        call_model = tf.function(lambda small, large: model([small, large], training=False))
        specs = [tf.TensorSpec(image.shape, "float32") for image in pair]
        converter = tf.lite.TFLiteConverter.from_concrete_functions([call_model.get_concrete_function(*specs)], model)
    interpreter = Interpreter(model_content=converter.convert())
    for detail in interpreter.get_input_details():
        interpreter.resize_tensor_input(detail["index"], [1, *detail["shape"][1:]])
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        (image,) = [image for image in pair if image.shape == tuple(detail["shape"])]
        interpreter.set_tensor(detail["index"], image)
    interpreter.invoke()
    logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    if source == "concrete_functions":
        assert np.isnan(logits).all()
    else:
        np.testing.assert_allclose(logits, call(model, pair), rtol=0, atol=1e-5)
        assert "Error" not in capfd.readouterr().err


def test_keras_export_to_onnx_is_refused_with_the_function_that_works(model, tmp_path):
    with pytest.raises(ValueError, match=r"keras_crossvit\.export"):
        model.export(tmp_path / "model.onnx", format="onnx")
    assert not (tmp_path / "model.onnx").exists()
