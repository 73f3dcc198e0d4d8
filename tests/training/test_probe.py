"""A linear probe: features once, heads by L-BFGS, and a run folder as of any run."""

import csv

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import keras_crossvit as kc
from keras_crossvit.pipeline import Augmentation
from keras_crossvit.training import RunInterrupted, get_recipe, plan_training, probe
from keras_crossvit.training.dry_run import describe_plan
from tests.helpers import image_folders
from tests.helpers.exports import confident_model

RECIPE = get_recipe("probe", batch_size=4)
CLASSES = sorted(image_folders.COLOURS)


def points(images=60, channels=5, classes=3):
    random = np.random.default_rng(0)
    labels = np.arange(images) % classes
    features = random.normal(size=(images, channels)) + 0.7 * random.normal(size=(classes, channels))[labels]
    return features.astype("float32"), np.eye(classes, dtype="float32")[labels]


@pytest.mark.parametrize("class_weights", [None, (1.0, 2.0, 0.5)])
def test_heads_are_those_of_logistic_regression(class_weights):
    features, targets = points()
    rows, best, last = probe.fit_heads((features, targets), None, RECIPE, class_weights)
    weights = None if class_weights is None else dict(enumerate(class_weights))
    regression = LogisticRegression(
        C=1 / (len(features) * RECIPE.weight_decay), class_weight=weights, max_iter=1000, tol=1e-8
    ).fit(features, targets.argmax(axis=1))
    logits = np.hstack([features, np.ones((60, 1))]) @ last
    # Both stop where the slope is small, and probabilities depend on coefficients there by less than that.
    np.testing.assert_allclose(probe.softmax(logits), regression.predict_proba(features), rtol=0, atol=2e-3)
    assert rows[-1]["accuracy"] == regression.score(features, targets.argmax(axis=1))
    np.testing.assert_array_equal(best, last)  # without validation images
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))


def test_slopes_are_those_of_the_losses():
    logits, targets = np.random.default_rng(0).normal(size=(2, 4, 3))
    targets = (targets > 0).astype(float)
    for loss, labels in (("softmax", np.eye(3)[[0, 2, 1, 1]]), ("binary", targets)):
        slopes = probe._losses(logits, labels, loss)[1]
        step = np.random.default_rng(1).normal(size=logits.shape) * 1e-6
        higher, lower = (probe._losses(logits + sign * step, labels, loss)[0] for sign in (1, -1))
        np.testing.assert_allclose(higher - lower, 2 * (slopes * step).sum(axis=1), rtol=1e-4, atol=1e-12)


def test_patience_and_validation_choose_the_iteration():
    features, targets = points()
    validation = (features, np.roll(targets, 1, axis=1))  # better on the one is worse on the other
    patient = get_recipe("probe", patience=3)
    rows, best, _ = probe.fit_heads((features, targets), validation, patient)
    accuracies = [row["val_accuracy"] for row in rows]
    values = [(row["val_accuracy"], -row["val_loss"]) for row in rows]
    assert len(rows) == values.index(max(values)) + 1 + 3
    logits = np.hstack([features, np.ones((60, 1))]) @ best
    assert np.mean(logits.argmax(axis=1) == validation[1].argmax(axis=1)) == max(accuracies)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return image_folders.write_plain(tmp_path_factory.mktemp("images") / "plain", 8)


def train(images, output, *, calibration=None, **arguments):
    model = confident_model(num_classes=3, class_names=CLASSES, calibration=calibration)
    settings = {"recipe": RECIPE, "validation_split": 0.25, "verbose": False, **arguments}
    return kc.train(images, model=model, output=output, **settings)


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """A run from a model with a calibration, which is of heads that the run replaces."""
    return train(images, tmp_path_factory.mktemp("runs") / "run", calibration={"temperature": 3.0})


def test_a_probe_is_a_run_with_all_its_files(finished):
    result = finished
    names = {path.name for path in result.folder.iterdir()}
    assert {"config.json", "metrics.csv", "best.keras", "last.keras", "evaluation", "report.html", "features"} <= names
    with (result.folder / "metrics.csv").open() as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == [row["loss"] for row in result.history]
    accuracies = [row["val_accuracy"] for row in result.history]
    assert result.evaluation.top1 == pytest.approx(max(accuracies))
    assert result.history[-1]["accuracy"] == 1.0
    before = kc.state_dict(confident_model(num_classes=3, class_names=CLASSES))
    after = kc.state_dict(result.model)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {name for name in before if name.startswith("head.")}


def test_an_interrupted_probe_computes_only_the_missing_features(finished, images, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_BATCHES_PER_FILE", 1)
    batches, seen = keras.Model.predict_on_batch, []

    def counted(self, given):
        if len(seen) == 3:
            seen.append(0)
            raise KeyboardInterrupt
        seen.append(len(given[0]))
        return batches(self, given)

    monkeypatch.setattr(keras.Model, "predict_on_batch", counted)
    with pytest.raises(RunInterrupted):
        train(images, tmp_path / "run")
    files = sorted((tmp_path / "run" / "features").iterdir())
    assert len(files) == 3
    files[2].write_bytes(files[2].read_bytes()[:-1])  # as after a power cut
    result = train(images, tmp_path / "run")
    # 18 images for training and 6 for validation, of which two batches are known; then 6 are drawn in the report.
    assert sum(seen[4:]) == 18 + 6 - 2 * 4 + 6
    for one, other in zip(result.model.get_weights(), finished.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)  # features of other batches are rounded differently
    for field in ("temperature", "threshold"):
        assert getattr(result.model.calibration, field) == pytest.approx(getattr(finished.model.calibration, field))
    assert result.evaluation.loss == pytest.approx(finished.evaluation.loss)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_decay": 0.75}, r"layer_decay 0\.75"),
        ({"ema_momentum": 0.9}, r"ema_momentum 0\.9"),
        ({"mixup": 0.1}, "augmentation cannot be combined with probe"),
    ],
)
def test_settings_that_a_probe_does_not_have_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        get_recipe("probe", **changes)


def test_arguments_that_a_probe_does_not_have_are_refused(images, finished, tmp_path):
    assert RECIPE.augmentation == Augmentation.none()
    with pytest.raises(ValueError, match="neither callbacks"):
        train(images, tmp_path / "run", callbacks=[keras.callbacks.TerminateOnNaN()])
    with pytest.raises(ValueError, match="teacher"):
        train(images, tmp_path / "run", teacher=finished.best)
    assert not (tmp_path / "run").exists()


def test_the_description_of_a_probe_has_no_learning_rate(images):
    shown = describe_plan(plan_training(images, model="crossvit_9", recipe=RECIPE, weights="none"))
    assert "L-BFGS" in shown
    assert "rate rises" not in shown
    model = confident_model(num_classes=3, class_names=CLASSES)
    shown = describe_plan(plan_training(images, model=model, recipe=RECIPE))
    kernels = sum(model.get_layer(f"{branch}_patch_head").kernel.shape[0] for branch in ("small", "large"))
    assert f"on {3 * kernels} parameters" in shown
    assert len(model.trainable_variables) == len(model.weights)  # a description freezes nothing
