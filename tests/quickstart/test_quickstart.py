"""The quickstart command, with fewer epochs."""

import contextlib
import io
import re
import shlex

import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.quickstart.digits import write_digits

DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def printed(folder):
    """What the command prints; the run is `folder / "runs" / "quickstart-3-epochs"`."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        arguments = ["--output", str(folder / "saved_models"), "--runs", str(folder / "runs"), "--epochs", "3"]
        assert cli.main(["quickstart", *arguments]) == 0
    return output.getvalue()


def test_summary_has_the_accuracy_and_existing_files(printed, folder):
    accuracy = float(re.search(r"Accuracy +([\d.]+)% on 360", printed)[1])
    assert accuracy > 40  # three epochs reach about 70; guessing gives 10
    difference = float(re.search(r"within (\S+) of", printed)[1])
    assert difference <= 1e-4  # logits of about 1 in float32
    saved_model = folder / "saved_models" / "crossvit_9_dagger" / "1"
    assert (saved_model / "saved_model.pb").is_file()
    assert str(saved_model) in printed
    report = folder / "runs" / "quickstart-3-epochs" / "report.html"
    assert report.stat().st_size > 10_000
    assert str(report) in printed


def test_suggested_command_classifies_an_image(printed, capsys):
    line = next(line for line in printed.splitlines() if "keras-crossvit predict" in line)
    assert cli.main(shlex.split(line, comments=True)[1:]) == 0
    assert "%" in capsys.readouterr().out


def test_run_holds_the_published_architecture_with_class_names(printed, folder):
    model = kc.load_model(folder / "runs" / "quickstart-3-epochs")
    assert model.class_names == DIGITS
    published = kc.variant_config("crossvit_9_dagger")
    assert (model.config.depth, model.config.embed_dim) == (published.depth, published.embed_dim)


def test_8_bit_weights_keep_the_logits_of_a_trained_model(printed, folder, tmp_path):
    model = kc.load_model(folder / "runs" / "quickstart-3-epochs")
    exported = kc.export(model, tmp_path / "model.tflite", quantize="dynamic-int8")  # compared on photographs
    assert exported.relative_rms < 0.01  # 0.0064 after these epochs, 0.008 after all


def test_digits_are_split_by_class_without_overlap(printed, folder):
    contents = {"train": [], "val": []}
    for split, images in contents.items():
        for name in DIGITS:
            images += [path.read_bytes() for path in sorted((folder / "runs" / "digits" / split / name).iterdir())]
    assert (len(contents["train"]), len(contents["val"])) == (1437, 360)
    assert not set(contents["train"]) & set(contents["val"])


def test_evaluation_shows_the_model_the_whole_digit(tmp_path):
    """The demo page feeds a drawing of 8x8 fields with crop_fraction 1, so digits must reach the model like that."""
    datasets = pytest.importorskip("sklearn.datasets")
    write_digits(tmp_path / "digits")
    config = kc.variant_config("crossvit_9_dagger", img_size=(48, 32))
    file = next((tmp_path / "digits" / "val" / "7").iterdir())
    drawing = (datasets.load_digits().images[int(file.stem)] * (255 / 16)).astype("float32")
    small, large = kc.preprocess(read_image(file), config)
    for seen, drawn in zip((small, large), kc.preprocess(drawing[..., None], config, crop_fraction=1.0), strict=True):
        assert np.abs(seen - drawn).mean() < 0.1 * drawn.std()
