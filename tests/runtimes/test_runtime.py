"""What every runtime does alike, by one that adds up pixels."""

import dataclasses

import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.runtimes.metadata import Metadata, metadata_of
from keras_crossvit.runtimes.runtime import Runtime
from tests.helpers.backends import call
from tests.helpers.exports import small_model
from tests.helpers.models import images


@pytest.fixture(scope="module")
def model():
    return small_model()


class Summing(Runtime):
    """Answers with the sum of an image in every class, and notes how many came at once."""

    name = "sums"

    def __init__(self, metadata, **arguments):
        super().__init__(metadata, **arguments)
        self.batches = []

    def _run(self, given):
        self.batches.append(len(given[0]))
        return np.repeat(given[0].sum(axis=(1, 2, 3))[:, None], 5, axis=1)


def test_fixed_batch_size_is_kept_by_rounds_and_padding(model):
    runtime = Summing(metadata_of(model), batch_size=4)
    inputs = images(model, batch=6)
    expected = inputs[0].sum(axis=(1, 2, 3))
    np.testing.assert_allclose(runtime.logits(*inputs)[:, 0], expected, rtol=1e-5)
    assert runtime.batches == [4, 4]


def test_any_number_of_images_is_run_in_rounds_without_padding(model):
    runtime = Summing(metadata_of(model))
    inputs = images(model, batch=150)
    np.testing.assert_allclose(runtime.logits(*inputs)[:, 0], inputs[0].sum(axis=(1, 2, 3)), rtol=0, atol=1e-3)
    assert runtime.batches == [64, 64, 22]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda small, large: (small[:, 1:], large), r"shape \(2, 47, 48, 3\) .* \(pictures, 48, 48, 3\)"),
        (lambda small, large: (small[0], large[0]), r"shape \(48, 48, 3\) does not fit"),
        (lambda small, large: (small, large.astype("uint8")), "large_patch_image is of dtype uint8"),
        (lambda small, large: (small * np.nan, large), "not finite"),
        (lambda small, large: (small, np.full_like(large, 1e39, "float64")), "large_patch_image .* not finite"),
        (lambda small, large: (small[:0], large[:0]), "batch is empty"),
        (lambda small, large: (small, large[:1]), "2 small-patch and 1 large-patch images do not pair"),
    ],
)
def test_odd_inputs_are_one_clear_line(change, message, model):
    with pytest.raises(ValueError, match=message):
        Summing(metadata_of(model)).logits(*change(*images(model)))


@pytest.mark.parametrize(("activation", "total"), [(None, 1), ("softmax", 1), ("sigmoid", 5)])
def test_probabilities_follow_the_model_s_activation(activation, total, model):
    runtime = Summing(metadata_of(small_model(classifier_activation=activation)))
    huge = [each * 0 + 1e4 for each in images(model)]
    np.testing.assert_allclose(runtime.probabilities(*huge).sum(axis=1), [total, total], rtol=1e-6)


@pytest.mark.parametrize("activation", [None, "linear", "sigmoid"])
def test_probability_of_one_class_is_a_sigmoid(activation):
    runtime = Summing(metadata_of(small_model(num_classes=1, class_names=["dog"], classifier_activation=activation)))
    logits = np.array([[-1.5], [0.0], [1.5]], "float32")
    np.testing.assert_allclose(runtime.probabilities_of(logits), 1 / (1 + np.exp(-logits.astype("float64"))), rtol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "log_softmax", "sparsemax"])
def test_metadata_of_a_constant_probability_are_refused(activation):
    metadata = metadata_of(small_model(num_classes=1, class_names=["dog"]))
    text = dataclasses.replace(metadata, classifier_activation=activation).to_json()
    with pytest.raises(ValueError, match=f"'file': num_classes is 1 and classifier_activation is '{activation}'"):
        Metadata.from_json(text, "file")


def test_logits_that_are_not_finite_are_named_by_their_image(model):
    runtime = Summing(metadata_of(model), batch_size=4)
    inputs = images(model, batch=6)
    inputs[0][4] = 1e38
    with np.errstate(over="ignore"):
        for answer in (runtime.logits, runtime.probabilities):
            with pytest.raises(ValueError, match="logits of image 4 hold inf, which is not finite"):
                answer(*inputs)
        assert np.isinf(runtime.unchecked_logits(inputs)).all(axis=1).tolist() == [False] * 4 + [True, False]


def test_activation_of_keras_alone_is_refused(model):
    runtime = Summing(metadata_of(small_model(classifier_activation="relu")))
    with pytest.raises(ValueError, match="'relu' makes of logits is known to Keras alone"):
        runtime.probabilities(*images(model))


def test_metadata_survives_as_json(model):
    metadata = metadata_of(model)
    assert Metadata.from_json(metadata.to_json(), "file") == metadata
    assert metadata.preprocessing["crop_fraction"] == 0.875
    for text in (None, "", "{}", "no JSON", "[1]"):
        with pytest.raises(ValueError, match="'file' does not say that it holds a CrossViT"):
            Metadata.from_json(text, "file")


def test_keras_file_runs_whatever_it_makes_of_its_logits(model, tmp_path):
    other = small_model(classifier_activation="softmax")
    other.set_weights(model.get_weights())
    other.save(tmp_path / "model.keras")
    runtime = kc.load_runtime(tmp_path / "model.keras")
    inputs = images(model, batch=3)
    np.testing.assert_allclose(runtime.logits(*inputs), call(model, inputs), rtol=0, atol=1e-6)
    np.testing.assert_allclose(runtime.probabilities(*inputs), call(other, inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("model.txt", ValueError, "ends in none of .tflite, .xml, .onnx"),
        ("nowhere.tflite", FileNotFoundError, "There is no model '.*nowhere.tflite'"),
        ("", ValueError, "is a folder without a SavedModel"),
    ],
)
def test_what_is_no_model_is_named(name, error, message, tmp_path):
    with pytest.raises(error, match=message):
        kc.load_runtime(tmp_path / name)
