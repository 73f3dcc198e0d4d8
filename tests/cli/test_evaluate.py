import json
import shutil

import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.preprocessing.predictions import sigmoid, softmax
from tests.helpers import collections
from tests.helpers.exports import confident_model, overflowing_model, write_export
from tests.helpers.models import tiny

IMAGES = 2  # of each class


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures to learn from and held out, and a model of their classes in files."""
    folder = tmp_path_factory.mktemp("evaluated")
    for split in ("train", "val"):
        collections.write_plain(folder / "images" / split, IMAGES)
    model = confident_model(num_classes=3, class_names=list(collections.COLOURS))
    kc.save_checkpoint(model, folder / "model.keras")
    write_export(model, folder / "model.tflite")
    return folder


def evaluated(folder, file, images, *options):
    figures = folder / f"figures-{file}"
    arguments = ["evaluate", str(folder / file), str(images), "--output", str(figures), *options]
    assert cli.main(arguments) == 0
    return json.loads((figures / "evaluation.json").read_text())


def test_a_model_and_its_exported_file_are_evaluated_alike(folder, capsys):
    figures = evaluated(folder, "model.keras", folder / "images")
    printed = capsys.readouterr().out
    assert f"top-1 {figures['top1']:.2%} of 6 pictures in 3 classes" in printed
    assert all(name in printed for name in collections.COLOURS)
    assert "6 files, 6 readable" in printed  # those held out alone
    exported = evaluated(folder, "model.tflite", folder / "images", "--batch-size", "4")
    assert exported["confusion"] == figures["confusion"]
    assert exported["loss"] == pytest.approx(figures["loss"], rel=1e-4)


def test_folders_named_as_imagenet_s_are_the_classes_of_a_model_without_names(folder, tmp_path):
    places = {"n01440764": 0, "n01443537": 1, "n15075141": 999}
    held_out = collections.write_plain(tmp_path / "val", 1)
    for own, name in zip(collections.COLOURS, places, strict=True):
        (held_out / own).rename(held_out / name)
    model = tiny(1000, depth=((1, 1, 0),))
    kc.save_checkpoint(model, folder / "imagenet.keras")
    figures = evaluated(folder, "imagenet.keras", tmp_path)
    inputs = kc.preprocess([read_image(held_out / name / "0.jpg") for name in places], model)
    probabilities = softmax(np.asarray(model(inputs)))
    wanted = -np.mean(np.log(probabilities[range(3), list(places.values())]))
    assert figures["loss"] == pytest.approx(wanted, rel=1e-4)
    assert figures["class_names"] == list(places)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.keras", "images"], "nowhere.keras"),
        (["model.keras", "nowhere"], "is no folder"),
        (["model.keras", "images", "--crop-fraction", "2"], "crop_fraction 2 is outside 0 < fraction <= 1"),
        (["model.keras", "images", "--validation-split", "0.1"], "has no use here"),
    ],
)
def test_mistakes_are_one_line(folder, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert cli.main(["evaluate", *arguments]) == cli.EXIT_MISTAKE
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert message in error


@pytest.mark.parametrize(("class_names", "of_class"), [(["grün"], "grün"), (["bleu"], "bleu"), (None, "grün")])
def test_model_of_one_class_tells_its_images_from_all_others(class_names, of_class, tmp_path):
    collections.write_plain(tmp_path / "images", IMAGES)
    shutil.rmtree(tmp_path / "images" / "rouge")
    model = confident_model(num_classes=1, class_names=class_names)
    kc.save_checkpoint(model, tmp_path / "one.keras")
    figures = evaluated(tmp_path, "one.keras", tmp_path / "images")
    places = [(name, i) for name in ("bleu", "grün") for i in range(IMAGES)]
    pixels = [read_image(tmp_path / "images" / name / f"{i}.jpg") for name, i in places]
    probabilities = sigmoid(np.asarray(model(kc.preprocess(pixels, model))))[:, 0]
    is_of = np.array([name == of_class for name, _ in places])
    assert figures["class_names"] == [of_class]
    assert figures["exact"] == np.mean((probabilities >= 0.5) == is_of)
    wanted = -np.mean(np.log(np.where(is_of, probabilities, 1 - probabilities)))
    assert figures["loss"] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"num_classes": 1, "class_names": ["dog"]},
            "class 'dog' of the model is none of the pictures' 3, such as 'bleu'",
        ),
        ({"num_classes": 1, "class_names": None}, "one class without a name where the pictures have 3"),
        (
            {"num_classes": 3, "class_names": None, "classifier_activation": "tanh"},
            "'tanh' makes of logits is known to Keras",
        ),
    ],
)
def test_model_that_cannot_be_evaluated_on_these_images_is_refused(model, message, folder):
    with pytest.raises(ValueError, match=message):
        kc.evaluate(confident_model(**model), folder / "images")


@pytest.mark.parametrize("num_classes", [1, 3])
def test_logits_that_are_not_finite_are_no_evaluation(num_classes, folder):
    class_names = list(collections.COLOURS)[:num_classes]
    with pytest.raises(ValueError, match="not finite"):
        kc.evaluate(overflowing_model(num_classes=num_classes, class_names=class_names), folder / "images")
