import dataclasses
import json

import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import keras_crossvit as kc
from keras_crossvit.preprocessing.calibration import Calibration, coverage_curve, fit_calibration
from keras_crossvit.preprocessing.predictions import softmax
from tests.helpers.exports import confident_model
from tests.helpers.models import images

CALIBRATION = Calibration(temperature=2.5, threshold=0.6)


def drawn(count, *, seed=0, classes=4):
    """Logits, and labels that have exactly their probabilities."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, classes))
    labels = np.array([random.choice(classes, p=row) for row in softmax(logits)])
    return logits, labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("count", [900, 4000])
def test_the_temperature_takes_back_a_factor_on_the_logits(factor, count):
    logits, labels = drawn(count)
    found, probabilities = fit_calibration(factor * logits, labels)
    assert found.temperature == pytest.approx(factor, rel=6 / count**0.5)  # three standard errors
    np.testing.assert_allclose(probabilities, softmax(logits), rtol=0, atol=0.1)


def test_the_threshold_is_the_smallest_from_which_on_19_of_20_are_right():
    found, probabilities = fit_calibration(*drawn(4000))
    labels = drawn(4000)[1]
    confidence, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    assert is_right[confidence >= found.threshold].mean() >= 0.95
    below = np.sort(confidence[confidence < found.threshold])[::-1][:200]
    assert all(is_right[confidence >= each].mean() < 0.95 for each in below)
    logits = np.zeros((40, 2))
    assert fit_calibration(logits, np.arange(40) % 2)[0].threshold is None  # half are right


def test_images_that_are_all_right_do_not_make_the_model_certain():
    logits = np.eye(3)[np.arange(30) % 3]
    found, probabilities = fit_calibration(logits, np.arange(30) % 3)
    assert 0.1 < found.temperature < 1
    assert probabilities.max() < 0.99


def test_of_few_images_each_has_a_temperature_of_the_others():
    logits, labels = drawn(50)
    labels[:] = logits.argmax(axis=1)
    logits[7] *= 0.01
    labels[7] = (labels[7] + 1) % 4
    found, probabilities = fit_calibration(logits, labels)
    assert not np.allclose(probabilities, softmax(logits / found.temperature))


def test_coverage_starts_with_the_surest():
    covered, accuracy = coverage_curve(np.array([0.9, 0.5, 0.7]), np.array([True, False, True]))
    np.testing.assert_allclose(covered, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(accuracy, [1, 1, 2 / 3])


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"temperature": float("nan")}, {"threshold": 1.5}])
def test_impossible_values_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Calibration(**fields)


@pytest.mark.parametrize("value", [[1], "x", True, {"temperatur": 2.0}, {"temperature": None}, {"threshold": [1]}])
def test_a_file_with_an_impossible_calibration_is_refused(value, tmp_path):
    model = confident_model(calibration=CALIBRATION)
    kc.save_checkpoint(model, tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "numpy") as stored:
        tensors, described = {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata()  # noqa: SIM118
    fields = json.loads(described["keras_crossvit"])
    assert fields["calibration"] == dataclasses.asdict(CALIBRATION)
    described["keras_crossvit"] = json.dumps({**fields, "calibration": value})
    save_file(tensors, tmp_path / "m.safetensors", described)
    with pytest.raises(ValueError, match=r"calibration|temperature|threshold"):
        kc.load_model(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"calibration|temperature|threshold"):
        kc.load_checkpoint(model, tmp_path / "m.safetensors")


def test_a_calibration_is_for_logits_of_several_classes():
    for arguments in ({"classifier_activation": "softmax"}, {"num_classes": 1, "class_names": None}):
        with pytest.raises(ValueError, match="two or more classes"):
            confident_model(calibration=CALIBRATION, **arguments)


def test_training_removes_it():
    model = confident_model(calibration=CALIBRATION)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    model.fit(images(model, batch=1), np.array([0]), verbose=0)
    assert model.calibration is None


@pytest.mark.parametrize("name", ["m.keras", "m.safetensors"])
def test_every_checkpoint_carries_it_and_its_probabilities_use_it(name, tmp_path):
    model = confident_model(calibration=CALIBRATION)
    kc.save_checkpoint(model, tmp_path / name)
    runtime = kc.load_runtime(tmp_path / name)
    assert runtime.calibration == CALIBRATION
    pair = images(model, batch=2)
    logits = runtime.logits(*pair)
    np.testing.assert_allclose(runtime.probabilities(*pair), softmax(logits / 2.5), rtol=0, atol=1e-6)


def test_files_without_one_are_not_calibrated(tmp_path):
    model = confident_model()
    kc.save_checkpoint(model, tmp_path / "m.safetensors")
    assert kc.load_runtime(tmp_path / "m.safetensors").calibration == Calibration()
    other = confident_model(calibration=CALIBRATION)
    kc.load_checkpoint(other, tmp_path / "m.safetensors")
    assert other.calibration is None
    kc.save_checkpoint(confident_model(calibration=CALIBRATION), tmp_path / "c.safetensors")
    kc.load_checkpoint(other, tmp_path / "c.safetensors")
    assert dataclasses.asdict(other.calibration) == {"temperature": 2.5, "threshold": 0.6}
