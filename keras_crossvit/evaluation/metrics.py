"""Classification metrics: scikit-learn's, and those that it does not have."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from keras_crossvit._internal.optional import require_library

BINS = 15  # of confidence
TOP = 5  # of top-5 accuracy


def sklearn_metrics() -> ModuleType:
    """Returns `sklearn.metrics`, or raises MissingLibraryError with the command that installs it."""
    return require_library("sklearn.metrics", "train")


def top_k_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int = TOP) -> float:
    """Returns the fraction of images whose label is among the k most probable classes."""
    classes = range(probabilities.shape[1])
    return float(sklearn_metrics().top_k_accuracy_score(labels, probabilities, k=k, labels=classes))


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean cross-entropy in nats.

    scikit-learn's `log_loss` clips float32 probabilities at 1e-7, which hides how wrong a confident mistake is.
    """
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.mean(np.log(np.maximum(chosen, 1e-30))))


def binary_cross_entropy(logits: np.ndarray, target: np.ndarray) -> float:
    """Returns the mean cross-entropy in nats of the sigmoid of every logit with its target, 0 or 1."""
    return float(np.mean(np.logaddexp(0, logits.astype("float64")) - logits * target))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns image counts by label (rows) and prediction (columns), without predictions of other classes (-1)."""
    return sklearn_metrics().confusion_matrix(labels, predicted, labels=range(num_classes))


def per_class_metrics(labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the number of images, precision, recall and F1 of every class; 0 where the denominator is 0."""
    columns = sklearn_metrics().precision_recall_fscore_support(
        labels, predicted, labels=range(len(class_names)), average=None, zero_division=0
    )
    return [
        {"class": name, "images": int(images), "precision": float(precision), "recall": float(recall), "f1": float(f1)}
        for name, precision, recall, f1, images in zip(class_names, *columns, strict=True)
    ]


def multi_label_metrics(
    probabilities: np.ndarray, target: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the same per class at a threshold of 1/2, and the average precision (None for a class without images)."""
    rows = []
    for i, name in enumerate(class_names):
        positive, probability = target[:, i].astype(int), probabilities[:, i]
        _, row = per_class_metrics(positive, (probability >= 0.5).astype(int), ["negative", name])
        score = float(sklearn_metrics().average_precision_score(positive, probability)) if positive.any() else None
        rows.append({**row, "average_precision": score})
    return rows


def reliability(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Returns the mean confidence, the accuracy and the count of 15 equal bins of confidence, shape (15, 3)."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, weights=values, minlength=BINS) for values in (confidence, correct.astype(float))]
    return np.stack([*(each / np.maximum(counts, 1) for each in sums), counts], axis=1)


def expected_calibration_error(bins: np.ndarray) -> float:
    """Returns the mean difference between confidence and accuracy over the bins, weighted by their counts.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    confidence, accuracy, counts = bins.T
    return float(np.sum(counts * np.abs(confidence - accuracy)) / counts.sum())
