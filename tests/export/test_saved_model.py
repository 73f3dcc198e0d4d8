import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import keras_crossvit as kc
from keras_crossvit.export import export_saved_model, saved_model
from tests.helpers.backends import call
from tests.helpers.models import images, tiny


@pytest.fixture(scope="module")
def model():
    return tiny(classes=list("abcde"))


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models") / "letters"
    return export_saved_model(model, folder)


def test_artefact_lies_under_its_version_and_nothing_else_is_left(exported):
    assert exported.path.name == "1"
    assert {each.name for each in exported.path.iterdir()} >= {"saved_model.pb", "variables"}
    assert [each.name for each in exported.path.parent.iterdir()] == ["1"]


def test_process_without_keras_gives_the_same_outputs(model, exported):
    assert exported.largest_difference <= 1e-5 * max(1, exported.largest_output)
    inputs = images(model, batch=3, seed=4)
    outputs = saved_model.run_in_fresh_process(exported.path, inputs)
    logits = call(model, inputs)
    np.testing.assert_allclose(outputs["logits"], logits, rtol=0, atol=1e-5)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["probabilities"], expected, rtol=0, atol=1e-5)


def test_signature_has_named_inputs_and_outputs_for_any_batch(exported):
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "show", "--dir", exported.path]
    command += ["--tag_set", "serve", "--signature_def", "serving_default"]
    shown = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    for line in (
        "inputs['small_patch_image']",
        "inputs['large_patch_image']",
        "shape: (-1, 48, 48, 3)",
        "shape: (-1, 32, 32, 3)",
        "outputs['logits']",
        "outputs['probabilities']",
        "shape: (-1, 5)",
    ):
        assert line in shown


def test_next_version_is_taken_and_an_existing_one_never_replaced(model, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "run_in_fresh_process", _answer_of(model))
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    assert export_saved_model(model, tmp_path).path.name == "8"
    with pytest.raises(FileExistsError, match=r"'.*8' is there already"):
        export_saved_model(model, tmp_path, version=8)


def test_artefact_that_disagrees_is_not_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "run_in_fresh_process", _answer_of(model, off_by=1e-3))
    with pytest.raises(RuntimeError, match=r"off by 0.001 .* nothing was written"):
        export_saved_model(model, tmp_path / "letters")
    assert list((tmp_path / "letters").iterdir()) == []


def test_interrupt_leaves_nothing(model, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_model, "run_in_fresh_process", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_saved_model(model, tmp_path / "letters")
    assert list((tmp_path / "letters").iterdir()) == []


def test_full_disk_is_one_clear_line_and_leaves_nothing(model, tmp_path, monkeypatch):
    def save(*arguments, **keywords):
        raise tf.errors.ResourceExhaustedError(None, None, "variables/part-00000; No space left on device [Op:SaveV2]")

    monkeypatch.setattr(tf.saved_model, "save", save)
    with pytest.raises(OSError, match=r"^TensorFlow cannot write a SavedModel \(No space left on device\); make room"):
        export_saved_model(model, tmp_path / "letters")
    assert list((tmp_path / "letters").iterdir()) == []


def test_broken_artefact_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="could not be run in a process of its own"):
        saved_model.run_in_fresh_process(tmp_path, [np.zeros((1, 8, 8, 3), "float32")] * 2)


def test_model_without_classes_returns_its_tokens(tmp_path, monkeypatch):
    model = kc.create_model("crossvit_9", 0, img_size=(24, 16), embed_dim=(8, 8), num_heads=(2, 2))
    monkeypatch.setattr(saved_model, "run_in_fresh_process", _answer_of(model))
    assert set(export_saved_model(model, tmp_path).outputs) == {"pre_logits"}


def _answer_of(model, off_by=0.0):
    """Stands in for the process where what it answers is the point; the real one has tests of its own."""

    def run(path, inputs):
        assert (path / "saved_model.pb").stat().st_size > 10_000
        return {model.output_names[0]: call(model, inputs) + off_by}

    return run
