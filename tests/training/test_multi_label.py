"""Images with any number of classes each, from their label table to predictions."""

import csv
import json

import keras
import numpy as np
import pytest
import sklearn.metrics
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.training import get_recipe, plan_training
from tests.helpers.models import tiny

CLASSES = ["bright", "green", "never"]
RECIPE = get_recipe("finetune", epochs=2, batch_size=6, learning_rate=3e-3, layer_decay=None, loss="binary")


def small_model(**arguments):
    keras.utils.set_random_seed(0)
    return tiny(3, class_names=CLASSES, **arguments)


def quantized_model():
    model = small_model()
    model.get_layer("small_patch_head").quantize("int8")
    return model


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 10)):
        (folder / split).mkdir()
        rows = []
        for i in range(count):
            is_bright, is_green = i % 2, i // 2 % 2
            colour = 40 + 120 * is_bright + np.array([0, 60 * is_green, 0])
            values = random.normal(colour, 5, (50, 60, 3))
            Image.fromarray(values.clip(0, 255).astype("uint8")).save(folder / split / f"{i}.png")
            rows.append([f"{i}.png", is_bright, is_green, int(split == "train" and i == 0)])
        with (folder / split / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["file", *CLASSES], *rows])
    return folder


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    return kc.train(
        images, model=small_model(), recipe=RECIPE, output=tmp_path_factory.mktemp("runs") / "run", verbose=False
    )


def test_best_model_is_evaluated_per_class(finished, images):
    evaluation = finished.evaluation
    assert evaluation.images == 10
    best = max(finished.history, key=lambda row: row["val_auc_pr"])
    assert evaluation.loss == pytest.approx(best["val_loss"], rel=1e-4)
    target = np.array([[i % 2, i // 2 % 2, 0] for i in range(10)])
    pixels = [read_image(images / "val" / f"{i}.png") for i in range(10)]
    inputs = [
        np.concatenate(each) for each in zip(*(kc.preprocess(each, finished.model) for each in pixels), strict=True)
    ]
    probabilities = keras.ops.convert_to_numpy(finished.model(inputs))
    expected = [sklearn.metrics.average_precision_score(target[:, i], probabilities[:, i]) for i in range(2)]
    assert [row["average_precision"] for row in evaluation.per_class] == [*map(pytest.approx, expected), None]
    assert evaluation.mean_average_precision == pytest.approx(np.mean(expected))
    assert kc.evaluate(finished.folder, images).to_dict()["per_class"] == evaluation.per_class


def test_run_folder_and_report_show_the_evaluation(finished):
    drawn = {path.name for path in (finished.folder / "evaluation").iterdir()}
    assert drawn == {"evaluation.json", "per_class.csv", "average_precision.png", "reliability.png"}
    json.loads((finished.folder / "evaluation" / "evaluation.json").read_text(), parse_constant=pytest.fail)
    page = finished.report.read_text()
    assert "mean average precision" in page
    assert page.count("data:image/png;base64,") == 4
    assert "mean average precision" in str(finished.evaluation)


def test_saved_models_return_independent_probabilities(finished, images, capsys):
    for name in ("best.keras", "last.keras"):
        model = keras.saving.load_model(finished.folder / name)
        assert model.classifier_activation == "sigmoid"
    image = images / "val" / "3.png"
    assert cli.main(["predict", str(finished.best), str(image), "--format", "jsonl"]) == 0
    answer = {row["name"]: row["probability"] for row in json.loads(capsys.readouterr().out)["predictions"]}
    expected = finished.model(kc.preprocess(read_image(image), finished.model))[0]
    assert [answer[name] for name in CLASSES] == pytest.approx(np.array(expected), abs=1e-5)


def test_multi_label_model_is_evaluated_on_single_label_images(finished, tmp_path):
    for name in CLASSES[:2]:
        (tmp_path / name).mkdir()
        Image.new("RGB", (50, 50), (200, 90, 90)).save(tmp_path / name / "0.png")
    evaluation = kc.evaluate(finished.folder, tmp_path)
    model = keras.saving.load_model(finished.best)
    probabilities = np.array(model(kc.preprocess(read_image(tmp_path / "green" / "0.png"), model))[0])
    target = np.eye(3)[:2]
    expected = -np.mean(target * np.log(probabilities) + (1 - target) * np.log(1 - probabilities))
    assert evaluation.loss == pytest.approx(expected, rel=1e-4)
    assert evaluation.top1 in (0.0, 0.5)
    assert evaluation.reliability[:, 0].max() == pytest.approx(probabilities.max(), abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "finetune", "weights": "none"}, "'softmax'"),
        ({"class_weights": "balanced"}, "class_weights .* 'binary'"),
        ({"teacher": __file__}, "teacher .* 'binary'"),
        ({"model": small_model(classifier_activation="sigmoid")}, "'sigmoid'"),
        ({"model": quantized_model()}, "1 quantized layers, such as 'small_patch_head'"),
        ({"model": small_model(), "weights": "imagenet"}, "weights 'imagenet'"),
    ],
)
def test_incompatible_settings_are_refused(images, settings, message):
    with pytest.raises(ValueError, match=message):
        plan_training(images, **{"model": "crossvit_9", "recipe": RECIPE, **settings})
