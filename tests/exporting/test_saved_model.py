import math
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import keras_crossvit as kc
from keras_crossvit.exporting import exporter, saved_model_writer
from keras_crossvit.exporting.saved_model_writer import export_saved_model
from keras_crossvit.exporting.serving_requests import bytes_of_no_image, drawn_image, encoded
from tests.helpers.backends import call
from tests.helpers.models import images, tiny


@pytest.fixture
def model():
    return tiny(class_names=list("abcde"))


def test_artefact_lies_under_its_version_and_nothing_else_is_left(letters):
    _, exported = letters
    assert exported.path.name == "1"
    assert {each.name for each in exported.path.iterdir()} >= {"saved_model.pb", "variables"}
    assert [each.name for each in exported.path.parent.iterdir()] == ["1"]


def test_every_weight_is_stored_once(letters):
    model, exported = letters
    stored = tf.train.list_variables(str(exported.path / "variables" / "variables"))
    assert sum(math.prod(shape) for _, shape in stored if shape) == model.count_params()


def test_process_without_keras_gives_the_same_outputs(letters):
    model, exported = letters
    assert exported.largest_difference <= 1e-5 * max(1, exported.largest_output)
    inputs = images(model, batch=3, seed=4)
    files = [encoded(drawn_image(), "JPEG"), *bytes_of_no_image()]
    requests = {
        "serving_default": {"small_patch_image": inputs[0], "large_patch_image": inputs[1]},
        "image_bytes": {"image_bytes": files},
    }
    outputs = saved_model_writer.run_in_fresh_process(exported.path, requests)
    logits = call(model, inputs)
    np.testing.assert_allclose(outputs["serving_default"]["logits"], logits, rtol=0, atol=1e-5)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["serving_default"]["probabilities"], expected, rtol=0, atol=1e-5)
    assert outputs["image_bytes"]["valid"].tolist() == [True, False, False, False, False]
    assert set(outputs["image_bytes"]["class_names"][0]) == {b"a", b"b", b"c", b"d", b"e"}


def test_saved_model_cli_shows_the_signatures_and_runs_them(letters, tmp_path):
    model, exported = letters
    shown = _saved_model_cli("show", "--dir", exported.path, "--all")
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
    inputs = images(model, batch=2, seed=1)
    np.savez(tmp_path / "inputs.npz", small=inputs[0], large=inputs[1])
    named = f"small_patch_image={tmp_path}/inputs.npz[small];large_patch_image={tmp_path}/inputs.npz[large]"
    command = ["run", "--dir", exported.path, "--tag_set", "serve", "--signature_def", "serving_default"]
    _saved_model_cli(*command, "--inputs", named, "--outdir", tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), call(model, inputs), rtol=0, atol=1e-5)


def test_next_version_is_taken_and_an_existing_one_never_replaced(model, tmp_path, monkeypatch):
    _stand_in_for_tensorflow(monkeypatch, model)
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    assert export_saved_model(model, tmp_path).path.name == "8"
    with pytest.raises(FileExistsError, match=r"'.*8' is there already"):
        export_saved_model(model, tmp_path, version=8)


@pytest.mark.parametrize(
    ("signature", "output", "message"),
    [
        ("serving_default", "logits", r"logits of serving_default are off by 0.001 .* nothing was written"),
        ("image_bytes", "valid", r"valid of image_bytes are off by 1 .* nothing was written"),
    ],
)
def test_artefact_that_disagrees_is_not_written(signature, output, message, model, tmp_path, monkeypatch):
    def disturb(outputs):
        array = outputs[signature][output]
        outputs[signature][output] = ~array if array.dtype == bool else array + 1e-3

    _stand_in_for_tensorflow(monkeypatch, model, disturb)
    with pytest.raises(RuntimeError, match=message):
        export_saved_model(model, tmp_path / "letters")
    assert list((tmp_path / "letters").iterdir()) == []


def test_interrupt_leaves_nothing(model, tmp_path, monkeypatch):
    def interrupt(outputs):
        raise KeyboardInterrupt

    _stand_in_for_tensorflow(monkeypatch, model, interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_saved_model(model, tmp_path / "letters")
    assert list((tmp_path / "letters").iterdir()) == []


def test_mixed_precision_is_written_in_float32(model, tmp_path, monkeypatch):
    mixed = tiny(class_names=list("abcde"), dtype="mixed_bfloat16")
    mixed.set_weights(model.get_weights())
    written = _stand_in_for_tensorflow(monkeypatch, model)
    report = _export(mixed, tmp_path / "letters", monkeypatch)
    (twin,) = written
    assert {layer.compute_dtype for layer in twin._flatten_layers()} == {"float32"}
    assert (twin.name, twin.class_names) == (mixed.name, mixed.class_names)
    np.testing.assert_allclose(call(twin, images(model)), call(model, images(model)), rtol=0, atol=1e-6)
    assert report.relative_rms < 1e-6
    assert (report.path / "export_report.json").read_text() == report.to_json()


@pytest.mark.parametrize("write", [export_saved_model, lambda *arguments: kc.export(*arguments, format="saved_model")])
def test_quantized_model_is_refused_before_anything_is_written(write, model, tmp_path):
    model.get_layer("small_patch_head").quantize("int8")
    with pytest.raises(ValueError, match="has been quantized by Keras"):
        write(model, tmp_path / "letters")
    assert list(tmp_path.iterdir()) == []


def test_logits_beyond_the_format_s_tolerance_are_refused_however_small_they_are(model, tmp_path, monkeypatch):
    def disturb(outputs):
        outputs["serving_default"]["logits"] += 5e-6

    _stand_in_for_tensorflow(monkeypatch, model, disturb)
    assert np.abs(call(model, images(model))).max() < 0.3
    with pytest.raises(RuntimeError, match=r"letters/1' are off by .* more than 1e-05"):
        _export(model, tmp_path / "letters", monkeypatch)
    assert list((tmp_path / "letters").iterdir()) == []


def test_interrupt_while_latencies_are_measured_leaves_nothing(model, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    _stand_in_for_tensorflow(monkeypatch, model)
    with pytest.raises(KeyboardInterrupt):
        _export(model, tmp_path / "letters", monkeypatch, time=interrupt)
    assert list((tmp_path / "letters").iterdir()) == []


def test_full_disk_is_one_clear_line_and_leaves_nothing(model, tmp_path, monkeypatch):
    def save(*arguments, **keywords):
        raise tf.errors.ResourceExhaustedError(None, None, "variables/part-00000; No space left on device [Op:SaveV2]")

    monkeypatch.setattr(tf.saved_model, "save", save)
    with pytest.raises(OSError, match=r"^TensorFlow cannot write a SavedModel \(No space left on device\); make room"):
        export_saved_model(model, tmp_path / "letters")
    assert list((tmp_path / "letters").iterdir()) == []


def test_broken_artefact_is_named(tmp_path):
    request = {"serving_default": {"image": np.zeros((1, 8, 8, 3), "float32")}}
    with pytest.raises(
        RuntimeError, match=r"could not be run in a process of its own: .*SavedModel file does not exist"
    ):
        saved_model_writer.run_in_fresh_process(tmp_path, request)


def _saved_model_cli(*arguments):
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _export(model, folder, monkeypatch, time=None):
    """Exports by the call for every format, with the stand-in for what is written, of which there is none to time."""
    taken = {"milliseconds": 1.0, "keras_milliseconds": 1.0, "timed_batch": 1, "threads": None}
    monkeypatch.setattr(exporter, "_time", time or (lambda *arguments: taken))
    return kc.export(model, folder, format="saved_model", images=[drawn_image()])


def _stand_in_for_tensorflow(monkeypatch, model, disturb=lambda outputs: None):
    """Stands in for writing and for the fresh process where neither is the point; both have tests of their own.

    Returns a list, to which the models are added that are written.
    """
    written = []

    def outputs_for(requests):
        logits = call(model, list(requests["serving_default"].values()))
        return {"serving_default": {"logits": logits}, "image_bytes": {"valid": np.array([True, False])}}

    def write(model, path, requests):
        written.append(model)
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"a graph")
        return outputs_for(requests)

    def run(path, requests):
        assert (path / "saved_model.pb").is_file()
        outputs = outputs_for(requests)
        disturb(outputs)
        return outputs

    monkeypatch.setattr(saved_model_writer, "_write", write)
    monkeypatch.setattr(saved_model_writer, "run_in_fresh_process", run)
    return written
