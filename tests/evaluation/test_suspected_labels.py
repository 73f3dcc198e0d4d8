import numpy as np

from keras_crossvit.evaluation.evaluator import _evaluate_single_label
from keras_crossvit.evaluation.suspected_labels import suspected_labels

NAMES = ("cat", "dog", "owl")


def evaluated(labels, logits, columns=3):
    common = {"class_names": NAMES[:columns], "images": len(labels), "images_per_second": 1.0}
    return _evaluate_single_label(
        logits, labels, np.arange(columns), common, [f"{i}.jpg" for i in range(len(labels))], independent=False
    )


def test_wrong_labels_are_found_the_most_suspicious_first():
    random = np.random.default_rng(0)
    true = np.repeat(np.arange(3), 40)
    logits = 5 * np.eye(3)[true] + random.normal(0, 0.5, (120, 3))
    labels = true.copy()
    labels[[3, 50]] = [1, 2]
    logits[[3, 50]] *= [[1.5], [2]]
    found = suspected_labels(evaluated(labels, logits))
    assert [(row["file"], row["class"], row["predicted"]) for row in found] == [
        ("50.jpg", "owl", "dog"),
        ("3.jpg", "dog", "cat"),
    ]
    assert suspected_labels(evaluated(true, logits)) == []


def test_a_model_may_have_more_classes_than_the_images():
    labels = np.repeat([0, 1], 20)
    logits = 6 * np.eye(3)[labels]
    logits[0] = [0, 6, 0]
    assert [row["image"] for row in suspected_labels(evaluated(labels, logits, columns=2))] == [0]


def test_one_class_has_no_wrong_labels():
    assert suspected_labels(evaluated(np.zeros(4, int), np.zeros((4, 1)), columns=1)) == []
