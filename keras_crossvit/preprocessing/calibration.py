"""The calibration of a model's probabilities: a temperature, and a threshold below which it is unsure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.optional import require_library
from keras_crossvit.preprocessing.predictions import softmax

ACCURACY = 0.95  # that the threshold is chosen for
_SMALL, _FOLDS = 1_000, 5  # below so many images, what is reported is cross-validated
_LOG_TEMPERATURES = math.log(0.05), math.log(20)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How to read the logits of a model with a softmax.

    Args:
        temperature: What logits are divided by before the softmax. Defaults to 1.
        threshold: Probability of the best class below which the model is unsure: above it, 95 % of the validation
            images were right. Defaults to None: never unsure, or no such probability.

    Raises:
        InvalidValueError: the temperature is not a positive number, or the threshold is not between 0 and 1.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2; the smoothing of labels
    is that of Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
    """

    temperature: float = 1.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        if not (_is_number(self.temperature) and 0 < self.temperature < math.inf):
            raise InvalidValueError(f"temperature {self.temperature!r} is not a positive number; fit the calibration.")
        if self.threshold is not None and not (_is_number(self.threshold) and 0 <= self.threshold <= 1):
            raise InvalidValueError(f"threshold {self.threshold!r} is not between 0 and 1; use None for none.")


def calibration_of(value: Any) -> Calibration:
    """Returns a calibration, also from a mapping of its fields, or raises InvalidValueError."""
    if isinstance(value, Calibration):
        return value
    if not isinstance(value, Mapping) or set(value) - {field.name for field in dataclasses.fields(Calibration)}:
        raise InvalidValueError(
            f"calibration {str(value)[:80]!r} is neither a Calibration nor a mapping of its fields."
        )
    return Calibration(**value)


def fit_calibration(logits: np.ndarray, labels: np.ndarray) -> tuple[Calibration, np.ndarray]:
    """Fits a calibration to images that the model was not trained on.

    Args:
        logits: Shape (images, classes).
        labels: Class numbers, shape (images,).

    Returns:
        The calibration, fitted to all images; and calibrated probabilities, shape (images, classes). Of fewer than
        1,000 images each has a temperature that was fitted to the others, by five folds. The threshold is that of these
        probabilities.
    """
    temperature = _fit_temperature(logits, labels)
    temperatures = np.full(len(labels), temperature)
    if _FOLDS <= len(labels) < _SMALL:
        fold = np.random.default_rng(0).permutation(len(labels)) % _FOLDS
        for each in range(_FOLDS):
            temperatures[fold == each] = _fit_temperature(logits[fold != each], labels[fold != each])
    probabilities = softmax(logits / temperatures[:, None])
    is_right = probabilities.argmax(axis=1) == labels
    return Calibration(temperature, _threshold(probabilities.max(axis=1), is_right)), probabilities


def coverage_curve(confidence: np.ndarray, is_right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the fraction of images that are answered if the least confident ones are not, and their accuracy."""
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(order) + 1)
    return answered / len(order), np.cumsum(is_right[order]) / answered


def _fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature of the smallest cross-entropy, from 0.05 to 20.

    Labels are smoothed by one image in all, or else images that are all right would have no smallest temperature.
    """
    optimize = require_library("scipy.optimize", "train")
    classes = logits.shape[1]
    other = 1 / (len(labels) + 2) / (classes - 1)  # of each class that is not the label
    right, total = logits[np.arange(len(labels)), labels], logits.sum(axis=1)
    wanted = (1 - classes * other) * right + other * total

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        highest = scaled.max(axis=1)
        normalizers = highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
        return float(np.mean(normalizers - wanted / math.exp(log_temperature)))

    return math.exp(optimize.minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded").x)


def _threshold(confidence: np.ndarray, is_right: np.ndarray) -> float | None:
    """Returns the smallest confidence from which on the accuracy is `ACCURACY`, or None."""
    _, accuracy = coverage_curve(confidence, is_right)
    falling = np.sort(confidence)[::-1]
    is_last = np.append(falling[1:] < falling[:-1], True)  # of those of equal confidence
    enough = falling[is_last & (accuracy >= ACCURACY)]
    return float(enough[-1]) if enough.size else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
