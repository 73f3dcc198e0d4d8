import numpy as np
import pytest
import sklearn.metrics

from keras_crossvit.evaluation import metrics

LABELS = np.array([0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 1, 1, 1, 2, 0])
NAMES = ["ant", "bee", "cat"]


def test_confusion_matrix_has_labels_in_rows():
    np.testing.assert_array_equal(metrics.confusion_matrix(LABELS, PREDICTED, 3), [[1, 1, 0], [0, 2, 0], [1, 0, 1]])


def test_every_class_has_precision_recall_and_f1():
    bee = metrics.per_class_metrics(LABELS, PREDICTED, NAMES)[1]
    assert bee == {"class": "bee", "images": 2, "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": 0.8}
    empty = metrics.per_class_metrics(LABELS, PREDICTED, [*NAMES, "dog"])[3]
    assert empty == {"class": "dog", "images": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_prediction_of_a_class_that_the_images_lack_is_a_mistake():
    predicted = np.array([0, -1, 1, 1, 2, 2])
    assert metrics.confusion_matrix(LABELS, predicted, 3).sum() == 5
    assert metrics.per_class_metrics(LABELS, predicted, NAMES)[0]["recall"] == 0.5


def test_top_k_accuracy_counts_the_k_most_probable():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    assert metrics.top_k_accuracy(probabilities, np.array([1, 2]), 2) == 0.5


def test_calibration_error_is_the_difference_of_confidence_and_accuracy():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    bins = metrics.reliability(confidence, correct)
    assert metrics.expected_calibration_error(bins) == pytest.approx((4 * 0.2 + 2 * 0.05) / 6)
    assert bins[:, 2].sum() == 6


def test_multi_label_metrics_of_one_class_and_of_a_class_without_images():
    random = np.random.default_rng(0)
    probabilities, target = random.integers(0, 5, (40, 2)) / 5, random.random((40, 2)) < 0.3
    target[:, 1] = False
    (one,) = metrics.multi_label_metrics(probabilities[:, :1], target[:, :1], ["ant"])
    expected = sklearn.metrics.average_precision_score(target[:, 0], probabilities[:, 0])
    assert one["average_precision"] == pytest.approx(expected)
    assert one["recall"] == np.mean(probabilities[target[:, 0], 0] >= 0.5)
    first, second = metrics.multi_label_metrics(probabilities, target, ["ant", "bee"])
    assert first == one
    assert (second["images"], second["average_precision"]) == (0, None)


def test_binary_cross_entropy_of_large_logits_is_finite():
    logits, target = np.array([[800.0, -800.0], [0.0, 0.0]]), np.array([[True, False], [True, False]])
    assert metrics.binary_cross_entropy(logits, target) == pytest.approx(np.log(2) / 2)
