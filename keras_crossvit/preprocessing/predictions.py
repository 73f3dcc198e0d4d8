"""From probabilities to the names of classes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from keras_crossvit._internal.checks import require_integer
from keras_crossvit._internal.errors import InvalidValueError

TOP = 5  # classes that are named where nobody asks for another number
ROUNDING = 1e-3  # by which half precision may take a probability out of 0 to 1


def decode_predictions(
    probabilities: Any, top: int = TOP, class_names: Sequence[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """Names the most probable classes of each picture.

    Args:
        probabilities: Array or tensor of shape (B, num_classes), values of 0 to 1. The rows need not add up to 1: with
            a sigmoid each class has a probability of its own.
        top: How many classes to name. Defaults to 5.
        class_names: Names of the classes, in the order of the probabilities, such as `model.classes`. Defaults to None:
            the 1,000 of ImageNet-1k.

    Returns:
        For each picture (identifier, name, probability) of its `top` most probable classes, most probable first. The
        identifier is the one of WordNet for ImageNet, and else the name. For a model of one class it is that class with
        its probability, even if that is below 1/2.

    Raises:
        ValueError: the probabilities have another shape, are not finite, or lie more than 0.001 outside of 0 to 1; or
            `top` is not a positive integer.
    """
    top = require_integer("top", top, minimum=1)
    if isinstance(class_names, str):
        raise InvalidValueError(
            f"classes {class_names!r} is one string; use a list of names, such as [{class_names!r}]."
        )
    table = _as_array(probabilities)
    labels = imagenet_classes() if class_names is None else tuple((str(name), str(name)) for name in class_names)
    if table.ndim != 2 or table.shape[1] != len(labels):
        whose = f"the {len(labels)} of ImageNet" if class_names is None else f"{len(labels)} class names"
        raise InvalidValueError(
            f"probabilities of shape {table.shape} do not fit {whose}; give the shape (pictures, {len(labels)}), or "
            "the names of your classes as classes=..., such as model.classes."
        )
    _require_probabilities(table)
    order = np.argsort(-table, axis=1, kind="stable")[:, :top]
    return [[(*labels[i], float(row[i])) for i in best] for row, best in zip(table, order, strict=True)]


def _require_probabilities(table: np.ndarray) -> None:
    outside = ~((require_finite("probabilities", table) >= -ROUNDING) & (table <= 1 + ROUNDING))
    if outside.any():
        raise InvalidValueError(
            f"probabilities has the value {table[outside][0]:g}, which is outside 0 to 1, as logits are. Use "
            "keras.ops.softmax(logits), or keras.ops.sigmoid(logits) for one class or several labels per image."
        )


def require_finite(label: str, table: np.ndarray) -> np.ndarray:
    """Returns an array of shape (B, classes), or raises ValueError unless all of its values are finite."""
    strange = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if strange.size:
        row = table[strange[0]]
        raise InvalidValueError(
            f"The {label} of image {strange[0]} hold {row[~np.isfinite(row)][0]}, which is not finite. Check the "
            "model's weights for NaN, and the image for values too large for the model's precision."
        )
    return table


def _as_array(values: Any) -> np.ndarray:
    if not isinstance(values, (np.ndarray, list, tuple)):
        import keras  # a tensor of its backend; where there is no Keras, there are arrays alone

        values = keras.ops.convert_to_numpy(values)
    return np.asarray(values, "float64")


def resolve_class_names(num_classes: int, class_names: Sequence[str] | None = None) -> list[str]:
    """Names for those who give no table of their own.

    Args:
        num_classes: How many classes a model tells apart.
        class_names: The model's own names. Defaults to None: ImageNet's for 1,000 classes, and else "class 0" and so on.

    Returns:
        A name per class, in the order of the logits.
    """
    if class_names is not None:
        return [str(name) for name in class_names]
    if num_classes == len(imagenet_classes()):
        return [name for _, name in imagenet_classes()]
    return [f"class {number}" for number in range(num_classes)]


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """(WordNet identifier, name) of the 1,000 classes of ImageNet-1k, in the order of the official logits."""
    text = resources.files("keras_crossvit.preprocessing").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(tuple(line.split(" ", 1)) for line in text.splitlines())


def probability_function(classifier_activation: str | None, num_classes: int) -> str:
    """Name of the function that makes probabilities of a model's logits, a key of `PROBABILITIES_OF`.

    A model of one class has one logit, of that class against its absence, and so a sigmoid.

    Args:
        classifier_activation: Name of the model's own activation, or None.
        num_classes: How many logits it has.

    Raises:
        ValueError: the activation is another, which only Keras can apply.
    """
    if classifier_activation not in (None, "linear", *PROBABILITIES_OF):
        raise InvalidValueError(
            f"What {classifier_activation!r} makes of logits is known to Keras alone; use logits() and apply it."
        )
    return "sigmoid" if num_classes == 1 or classifier_activation == "sigmoid" else "softmax"


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits of shape (B, classes), in float64."""
    shifted = np.exp(logits.astype("float64") - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits of which each stands for itself, in float64."""
    return 0.5 * (1 + np.tanh(logits.astype("float64") / 2))


PROBABILITIES_OF: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"softmax": softmax, "sigmoid": sigmoid}
