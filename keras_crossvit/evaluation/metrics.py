"""Measures of classification, in NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 15
TOP = 5  # beside the most probable class, how many are looked at


def top_k_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of pictures whose label is among the k most probable classes."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(np.mean((best == labels[:, None]).any(axis=1)))


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of probabilities with the labels' classes, in nats."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.mean(np.log(np.maximum(chosen, 1e-30))))


def binary_cross_entropy(logits: np.ndarray, is_of: np.ndarray) -> float:
    """Mean cross-entropy of the sigmoid of each logit with whether the picture is of the class, in nats."""
    return float(np.mean(np.logaddexp(0, logits.astype("float64")) - logits * is_of))


def average_precision(probabilities: np.ndarray, is_of: np.ndarray) -> float | None:
    """Precision at every probability that occurs, by the recall gained there; None where no picture is of the class.

    Args:
        probabilities: Shape (pictures,).
        is_of: Which pictures are of the class, of the same shape.
    """
    if not is_of.any():
        return None
    order = np.argsort(-probabilities, kind="stable")
    ends = np.flatnonzero(np.diff(probabilities[order], append=-1.0))  # equal ones come together
    right = np.cumsum(is_of[order])[ends]
    return float(np.sum(np.diff(right, prepend=0) * right / (ends + 1)) / is_of.sum())


def multi_label_per_class(
    probabilities: np.ndarray, is_of: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Pictures, average precision, and what claiming at 1/2 or more gives: precision, recall and F1 of every class."""
    claimed = probabilities >= 0.5
    return [
        {
            "class": name,
            **_agreement(np.sum(claimed[:, i] & is_of[:, i]), is_of[:, i].sum(), claimed[:, i].sum()),
            "average_precision": average_precision(probabilities[:, i], is_of[:, i]),
        }
        for i, name in enumerate(class_names)
    ]


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, class_names: int) -> np.ndarray:
    """Pictures by label (rows) and prediction (columns); predictions below 0, of other classes, are left out."""
    table = np.zeros((class_names, class_names), "int64")
    counted = predicted >= 0
    np.add.at(table, (labels[counted], predicted[counted]), 1)
    return table


def per_class(confusion: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Pictures, precision, recall and F1 of every class; 0 where there is nothing to divide by."""
    return [
        {"class": name, **_agreement(confusion[i, i], np.sum(labels == i), confusion[:, i].sum())}
        for i, name in enumerate(class_names)
    ]


def _agreement(right: Any, images: Any, claimed: Any) -> dict[str, Any]:
    right, images, claimed = int(right), int(images), int(claimed)
    return {
        "images": images,
        "precision": right / claimed if claimed else 0.0,
        "recall": right / images if images else 0.0,
        "f1": 2 * right / (images + claimed) if images + claimed else 0.0,
    }


def reliability(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Mean confidence, accuracy and pictures of each of 15 equal bins of confidence, shape (15, 3)."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, weights=values, minlength=BINS) for values in (confidence, right.astype(float))]
    return np.stack([*(each / np.maximum(counts, 1) for each in sums), counts], axis=1)


def expected_calibration_error(bins: np.ndarray) -> float:
    """Mean distance of confidence and accuracy over bins, each counting by its pictures.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    confidence, accuracy, counts = bins.T
    return float(np.sum(counts * np.abs(confidence - accuracy)) / counts.sum())
