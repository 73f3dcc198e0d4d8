"""Measures of classification, in NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 15


def top_k_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of pictures whose label is among the k most probable classes."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(np.mean((best == labels[:, None]).any(axis=1)))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Pictures by label (rows) and prediction (columns); predictions below 0, of other classes, are left out."""
    table = np.zeros((classes, classes), "int64")
    counted = predicted >= 0
    np.add.at(table, (labels[counted], predicted[counted]), 1)
    return table


def per_class(confusion: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Pictures, precision, recall and F1 of every class; 0 where there is nothing to divide by."""
    rows = []
    for i, name in enumerate(class_names):
        right, pictures, claimed = int(confusion[i, i]), int(np.sum(labels == i)), int(confusion[:, i].sum())
        rows.append(
            {
                "class": name,
                "pictures": pictures,
                "precision": right / claimed if claimed else 0.0,
                "recall": right / pictures if pictures else 0.0,
                "f1": 2 * right / (pictures + claimed) if pictures + claimed else 0.0,
            }
        )
    return rows


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
