import json
import shutil

import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.pipeline import open_dataset
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.preprocessing.predictions import sigmoid, softmax
from tests.helpers import image_folders
from tests.helpers.exports import confident_model, overflowing_model, write_export
from tests.helpers.models import tiny

IMAGES = 2  # of each class


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Training and validation images, and a model of their classes as checkpoint and as LiteRT file."""
    folder = tmp_path_factory.mktemp("evaluated")
    for split in ("train", "val"):
        image_folders.write_plain(folder / "images" / split, IMAGES)
    model = confident_model(num_classes=3, class_names=list(image_folders.COLOURS))
    kc.save_checkpoint(model, folder / "model.keras")
    write_export(model, folder / "model.tflite")
    return folder


def evaluated(folder, file, images, *options):
    results = folder / f"results-{file}"
    arguments = ["evaluate", str(folder / file), str(images), "--output", str(results), *options]
    assert cli.main(arguments) == 0
    return json.loads((results / "evaluation.json").read_text())


def test_checkpoint_and_export_have_the_same_evaluation(folder, capsys):
    results = evaluated(folder, "model.keras", folder / "images")
    printed = capsys.readouterr().out
    assert f"top-1 {results['top1']:.2%} on 6 images of 3 classes" in printed
    assert all(name in printed for name in image_folders.COLOURS)
    assert "6 files, 6 readable" in printed  # only the validation set
    exported = evaluated(folder, "model.tflite", folder / "images", "--batch-size", "4")
    assert exported["confusion"] == results["confusion"]
    assert exported["loss"] == pytest.approx(results["loss"], rel=1e-4)


def test_wordnet_folders_are_the_classes_of_a_model_without_names(folder, tmp_path):
    positions = {"n01440764": 0, "n01443537": 1, "n15075141": 999}
    validation = image_folders.write_plain(tmp_path / "val", 1)
    for own, name in zip(image_folders.COLOURS, positions, strict=True):
        (validation / own).rename(validation / name)
    model = tiny(1000)
    kc.save_checkpoint(model, folder / "imagenet.keras")
    results = evaluated(folder, "imagenet.keras", tmp_path)
    inputs = kc.preprocess([read_image(validation / name / "0.jpg") for name in positions], model)
    probabilities = softmax(np.asarray(model(inputs)))
    expected = -np.mean(np.log(probabilities[range(3), list(positions.values())]))
    assert results["loss"] == pytest.approx(expected, rel=1e-4)
    assert results["class_names"] == list(positions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.keras", "images"], "nowhere.keras"),
        (["model.keras", "nowhere"], "nowhere"),
        (["model.keras", "images", "--crop-fraction", "2"], "crop_fraction 2"),
        (["model.keras", "images", "--validation-split", "0.1"], "validation_split 0.1"),
    ],
)
def test_mistakes_are_one_line_with_the_value(folder, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert cli.main(["evaluate", *arguments]) == cli.EXIT_MISTAKE
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert message in error


@pytest.mark.parametrize(("class_names", "of_class"), [(["grün"], "grün"), (["bleu"], "bleu"), (None, "grün")])
def test_one_class_model_separates_its_class_from_all_others(class_names, of_class, tmp_path):
    image_folders.write_plain(tmp_path / "images", IMAGES)
    shutil.rmtree(tmp_path / "images" / "rouge")
    model = confident_model(num_classes=1, class_names=class_names)
    kc.save_checkpoint(model, tmp_path / "one.keras")
    results = evaluated(tmp_path, "one.keras", tmp_path / "images")
    images = [(name, i) for name in ("bleu", "grün") for i in range(IMAGES)]
    pixels = [read_image(tmp_path / "images" / name / f"{i}.jpg") for name, i in images]
    probabilities = sigmoid(np.asarray(model(kc.preprocess(pixels, model))))[:, 0]
    positive = np.array([name == of_class for name, _ in images])
    assert results["class_names"] == [of_class]
    assert results["subset_accuracy"] == np.mean((probabilities >= 0.5) == positive)
    expected = -np.mean(np.log(np.where(positive, probabilities, 1 - probabilities)))
    assert results["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"num_classes": 1, "class_names": ["dog"]}, "'dog' .* 'bleu'"),
        ({"num_classes": 1, "class_names": None}, "3 classes"),
        ({"num_classes": 3, "class_names": None, "classifier_activation": "tanh"}, "'tanh'"),
    ],
)
def test_model_of_other_classes_is_refused(model, message, folder):
    with pytest.raises(ValueError, match=message):
        kc.evaluate(confident_model(**model), folder / "images")


def test_a_wrapper_is_refused_before_images_are_read():
    with pytest.raises(TypeError, match="Expected a CrossViT, got Functional"):
        kc.evaluate(kc.single_image(tiny()), "nowhere")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"num_classes": 3, "class_names": list("abc")}, ["a", "b", "c"]),
        ({"num_classes": 3, "class_names": None}, ["class 0", "class 1", "class 2"]),
        ({"num_classes": 1, "class_names": ["a"]}, ["a"]),
        ({"num_classes": 1, "class_names": None}, ["class 0"]),
    ],
)
def test_labels_of_a_dataset_are_numbers_of_the_classes(arguments, names):
    model = confident_model(**arguments)
    labels = np.arange(12) % max(2, len(names))
    dataset = image_folders.dataset(labels=labels)
    result = kc.evaluate(model, dataset)
    logits = np.asarray(model(kc.preprocess([image for image, _ in dataset.as_numpy_iterator()], model)))
    assert list(result.class_names) == names
    if len(names) == 1:
        assert result.subset_accuracy == np.mean((logits[:, 0] >= 0) == labels)
    else:
        assert result.top1 == np.mean(logits.argmax(1) == labels)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_logits_that_are_not_finite_are_refused(num_classes, folder):
    class_names = list(image_folders.COLOURS)[:num_classes]
    with pytest.raises(ValueError, match="not finite"):
        kc.evaluate(overflowing_model(num_classes=num_classes, class_names=class_names), folder / "images")


def run_of(folder, data, **settings):
    """Writes a run folder as `train` does, with a confident model of the images' classes."""
    folder.mkdir()
    model = confident_model(num_classes=3, class_names=list(image_folders.COLOURS))
    kc.save_checkpoint(model, folder / "best.keras")
    (folder / "config.json").write_text(json.dumps({"recipe": {}, "data": str(data.resolve()), **settings}))
    return folder


def test_a_run_is_evaluated_on_its_own_validation_and_test_images(tmp_path, capsys):
    for split, count in (("train", 3), ("valid", 2), ("Testing", 1)):
        image_folders.write_plain(tmp_path / "images" / split, count)
    run = run_of(tmp_path / "run", tmp_path / "images", seed=0, validation_split=0.0)
    assert cli.main(["evaluate", str(run), "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "\nvalidation: top-1" in printed
    assert "\ntest: top-1" in printed
    counts = {
        split: json.loads((tmp_path / "out" / split / "evaluation.json").read_text())["images"]
        for split in ("validation", "test")
    }
    assert counts == {"validation": 6, "test": 3}
    assert cli.main(["evaluate", str(run), "--json"]) == 0
    printed = capsys.readouterr()
    results = json.loads(printed.out)
    assert {split: result["images"] for split, result in results.items()} == counts
    assert "6 files, 6 readable" in printed.err
    assert kc.evaluate(run).images == 6
    assert kc.evaluate(run, split="test").images == kc.evaluate(run, tmp_path / "images" / "Testing").images == 3
    shutil.rmtree(tmp_path / "images" / "valid")
    assert kc.evaluate(run).images == 3


def test_a_run_has_the_fraction_seed_and_limits_of_its_training(tmp_path, caplog):
    images = image_folders.write_plain(tmp_path / "images", 4)
    (images / "bleu" / "broken.jpg").touch()
    reading = {"max_unreadable": 1, "follow_links": False}
    opened = open_dataset(images, validation_split=0.5, seed=3, max_unreadable=1)
    run = run_of(
        tmp_path / "run", images, seed=3, validation_split=0.5, reading=reading, images={"sha256": opened.fingerprint()}
    )
    result = kc.evaluate(run)
    assert result.images == len(opened.validation) == 6
    assert "not those of the training" not in caplog.text
    assert kc.evaluate(run, seed=4).images == 6
    assert "not those of the training" not in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "datasets"}, "trained on tf.data datasets"),
        ({"data": "nowhere"}, "'nowhere', the images of the run"),
        ({"validation_split": 0}, "neither validation nor test images"),
    ],
)
def test_a_run_without_images_to_evaluate_on_is_refused(change, message, tmp_path, capsys):
    images = image_folders.write_plain(tmp_path / "images", 1)
    run = run_of(tmp_path / "run", images, **{"seed": 0, **{k: v for k, v in change.items() if k != "data"}})
    if "data" in change:
        (run / "config.json").write_text(json.dumps({"recipe": {}, **change}))
    assert cli.main(["evaluate", str(run)]) == cli.EXIT_MISTAKE
    assert message in capsys.readouterr().err


def test_a_model_without_a_run_needs_images(folder, capsys):
    assert cli.main(["evaluate", str(folder / "model.keras")]) == cli.EXIT_MISTAKE
    assert "pass labelled images" in capsys.readouterr().err
