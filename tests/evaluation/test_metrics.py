import numpy as np
import pytest
import sklearn.metrics

from keras_crossvit.evaluation import metrics

LABELS = np.array([0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 1, 1, 1, 2, 0])
NAMES = ["ant", "bee", "cat"]


def test_confusion_counts_rows_by_class_and_columns_by_prediction():
    confusion = metrics.confusion_matrix(LABELS, PREDICTED, 3)
    np.testing.assert_array_equal(confusion, [[1, 1, 0], [0, 2, 0], [1, 0, 1]])


def test_every_class_has_precision_recall_and_f1():
    confusion = metrics.confusion_matrix(LABELS, PREDICTED, 3)
    bee = metrics.per_class(confusion, LABELS, NAMES)[1]
    assert bee == {"class": "bee", "images": 2, "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": 0.8}


def test_a_class_outside_the_images_counts_as_a_mistake():
    confusion = metrics.confusion_matrix(LABELS, np.array([0, -1, 1, 1, 2, 2]), 3)
    assert metrics.per_class(confusion, LABELS, NAMES)[0]["recall"] == 0.5


def test_top_k_counts_the_k_most_probable():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    assert metrics.top_k_accuracy(probabilities, np.array([1, 2]), 2) == 0.5


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False, True, False])
    bins = metrics.reliability(confidence, right)
    assert metrics.expected_calibration_error(bins) == pytest.approx((4 * 0.2 + 2 * 0.05) / 6)
    assert bins[:, 2].sum() == 6


def test_average_precision_is_that_of_scikit_learn_with_equal_probabilities_too():
    random = np.random.default_rng(0)
    probabilities, is_of = random.integers(0, 5, 40) / 5, random.random(40) < 0.3
    wanted = sklearn.metrics.average_precision_score(is_of, probabilities)
    assert metrics.average_precision(probabilities, is_of) == pytest.approx(wanted)
    assert metrics.average_precision(probabilities, np.zeros(40, bool)) is None


def test_binary_cross_entropy_bears_certain_answers():
    logits, is_of = np.array([[800.0, -800.0], [0.0, 0.0]]), np.array([[True, False], [True, False]])
    assert metrics.binary_cross_entropy(logits, is_of) == pytest.approx(np.log(2) / 2)
