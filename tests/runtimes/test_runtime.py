"""What all runtimes have in common, shown by one that adds up pixels."""

import dataclasses

import numpy as np
import pytest

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.runtimes.metadata import Metadata, metadata_of
from keras_crossvit.runtimes.runtime import Runtime, refused_if_damaged
from tests.helpers.exports import small_model
from tests.helpers.models import images


@pytest.fixture(scope="module")
def model():
    return small_model()


class Summing(Runtime):
    """Gives the sum of an image as the logit of every class, and records the batch sizes."""

    name = "sums"

    def __init__(self, metadata, **arguments):
        super().__init__(metadata, **arguments)
        self.batches = []

    def _run(self, given):
        self.batches.append(len(given[0]))
        return {"logits": np.repeat(given[0].sum(axis=(1, 2, 3))[:, None], 5, axis=1)}


def test_fixed_batch_size_is_kept_by_batches_and_padding(model):
    runtime = Summing(metadata_of(model), batch_size=4)
    inputs = images(model, batch=6)
    expected = inputs[0].sum(axis=(1, 2, 3))
    np.testing.assert_allclose(runtime.logits(*inputs)[:, 0], expected, rtol=1e-5)
    assert runtime.batches == [4, 4]


def test_runtime_without_explanations_says_how_to_get_them(model):
    with pytest.raises(ValueError, match=r"\(logits\).*--outputs logits explanation"):
        Summing(metadata_of(model)).explanations(*images(model))


def test_any_batch_size_runs_in_batches_without_padding(model):
    runtime = Summing(metadata_of(model))
    inputs = images(model, batch=150)
    np.testing.assert_allclose(runtime.logits(*inputs)[:, 0], inputs[0].sum(axis=(1, 2, 3)), rtol=0, atol=1e-3)
    assert runtime.batches == [64, 64, 22]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda small, large: (small[:, 1:], large), r"\(2, 47, 48, 3\).* 48, 48, 3\)"),
        (lambda small, large: (small[0], large[0]), r"shape \(48, 48, 3\)"),
        (lambda small, large: (small, large.astype("uint8")), "large_patch_image .* uint8"),
        (lambda small, large: (small * np.nan, large), "not finite"),
        (lambda small, large: (small, np.full_like(large, 1e39, "float64")), "large_patch_image .* not finite"),
        (lambda small, large: (small[:0], large[:0]), "batch is empty"),
        (lambda small, large: (small, large[:1]), "2 small-patch and 1 large-patch"),
    ],
)
def test_invalid_inputs_are_errors(change, message, model):
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
def test_activation_that_is_constant_for_one_class_is_refused(activation):
    metadata = metadata_of(small_model(num_classes=1, class_names=["dog"]))
    text = dataclasses.replace(metadata, classifier_activation=activation).to_json()
    with pytest.raises(ValueError, match=f"'file'.*'{activation}'"):
        Metadata.from_json(text, "file")


def test_error_names_the_image_whose_logits_are_not_finite(model):
    runtime = Summing(metadata_of(model), batch_size=4)
    inputs = images(model, batch=6)
    inputs[0][4] = 1e38
    with np.errstate(over="ignore"):
        for answer in (runtime.logits, runtime.probabilities):
            with pytest.raises(ValueError, match=r"image 4 .*inf"):
                answer(*inputs)
        assert np.isinf(runtime.unchecked_logits(inputs)).all(axis=1).tolist() == [False] * 4 + [True, False]


def test_activation_that_only_keras_knows_is_refused(model):
    runtime = Summing(metadata_of(small_model(classifier_activation="relu")))
    with pytest.raises(ValueError, match="'relu'"):
        runtime.probabilities(*images(model))


def test_metadata_is_restored_from_json(model):
    metadata = metadata_of(model)
    assert Metadata.from_json(metadata.to_json(), "file") == metadata
    assert metadata.preprocessing["crop_fraction"] == 0.875
    explained = metadata_of(model, ("logits", "explanation"))
    assert Metadata.from_json(explained.to_json(), "file").outputs == ("logits", "explanation")
    for text in (None, "", "{}", "not JSON", "[1]"):
        with pytest.raises(ValueError, match="'file'"):
            Metadata.from_json(text, "file")


@pytest.mark.parametrize("outputs", [{}, {"logits": np.zeros((2, 4))}, {"logits": np.zeros(2)}])
def test_outputs_that_the_file_does_not_describe_are_refused(model, outputs):
    runtime = Summing(metadata_of(model))
    runtime._run = lambda given: outputs
    with pytest.raises(InvalidValueError, match=r"logits of shape .*\(2, 5\)"):
        runtime.logits(*images(model))


def test_errors_of_a_library_are_told_in_one_line():
    message = r"^'a\.tflite' is not a complete LiteRT file \(no data\)"
    with pytest.raises(InvalidValueError, match=message), refused_if_damaged("a.tflite", "LiteRT file"):
        raise RuntimeError("no data\nat all")


def test_a_description_that_is_not_utf_8_is_refused():
    with pytest.raises(InvalidValueError, match=r"a\.tflite"):
        Metadata.from_json(b'{"name": "\xff"}', "a.tflite")
