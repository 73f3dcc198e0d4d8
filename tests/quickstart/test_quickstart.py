"""The first command, whole, but with fewer rounds through the digits."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.exporting.exporter import relative_rms
from keras_crossvit.exporting.sample_images import comparison_inputs
from keras_crossvit.quickstart.digits import CLASSES, load_digits
from keras_crossvit.training.recipes import QUICKSTART
from tests.helpers.exports import write_export
from tests.helpers.processes import PROJECT, run_python


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    done = run_python(
        "-m", "keras_crossvit", "quickstart", "--epochs", "1", "--output", folder, KERAS_BACKEND="tensorflow"
    )
    return folder, done.stdout


def test_summary_says_what_was_reached_and_where_it_lies(run):
    folder, output = run
    accuracy = float(output.split("Accuracy")[1].split("%")[0])
    assert accuracy > 20  # one round is a start; ten classes by chance give 10
    difference = float(output.split("within ")[1].split()[0])
    assert difference <= 1e-5
    for name in ("crossvit_9_dagger/1", "crossvit_9_dagger.keras", "_predictions.png", "_learning_curves.png"):
        assert f"{folder}/crossvit_9_dagger{name.removeprefix('crossvit_9_dagger')}" in output


def test_files_are_whole_and_nothing_else_is_left(run):
    folder, _ = run
    assert sorted(each.name for each in folder.iterdir()) == [
        "crossvit_9_dagger",
        "crossvit_9_dagger.keras",
        "crossvit_9_dagger_learning_curves.png",
        "crossvit_9_dagger_predictions.png",
    ]
    assert [each.name for each in (folder / "crossvit_9_dagger").iterdir()] == ["1"]
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 10


def test_keras_file_holds_the_whole_architecture_and_the_class_names(run):
    model = keras.saving.load_model(run[0] / "crossvit_9_dagger.keras")
    assert isinstance(model, kc.CrossViT)
    assert model.class_names == CLASSES
    published = kc.variant_config("crossvit_9_dagger")
    assert (model.config.depth, model.config.embed_dim) == (published.depth, published.embed_dim)
    _, validation = load_digits(model.config, seed=0)
    some = slice(100)
    predicted = keras.ops.convert_to_numpy(model([each[some] for each in validation.inputs])).argmax(axis=1)
    assert np.mean(predicted == validation.labels[some]) > 0.2


def test_digits_are_split_by_class_and_never_shared():
    config = kc.variant_config("crossvit_9_dagger", img_size=QUICKSTART.img_size)
    train, validation = load_digits(config, seed=3)
    assert len(train.labels) + len(validation.labels) == 1797
    assert np.bincount(validation.labels) == pytest.approx(np.bincount(train.labels) / 4, abs=1)
    seen = {path.tobytes() for path in train.images}
    assert not any(path.tobytes() in seen for path in validation.images)
    assert [each.shape[1:3] for each in train.inputs] == list(config.image_sizes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_no_half_written_model(tmp_path, number):
    command = [sys.executable, "-m", "keras_crossvit", "quickstart", "--output", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "KERAS_BACKEND": "tensorflow", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while "Training on" not in process.stdout.readline():
            assert process.poll() is None, process.stderr.read()
        time.sleep(1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1].startswith("Interrupted")
    assert list(tmp_path.rglob("*")) == []


def test_trained_weights_rounded_to_8_bits_are_off_by_less_than_a_hundredth_on_photographs(run, tmp_path):
    model = kc.load_model(run[0] / "crossvit_9_dagger.keras")
    write_export(model, tmp_path / "m.tflite", quantize="dynamic-int8")
    inputs, _ = comparison_inputs(None, model.config)
    logits = kc.load_runtime(tmp_path / "m.tflite", threads=1).logits(*inputs)
    assert relative_rms(logits, keras.ops.convert_to_numpy(model(inputs))) < 0.01
