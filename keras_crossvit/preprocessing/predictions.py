"""Turns logits into probabilities, and probabilities into class names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike

from keras_crossvit._internal.checks import require_integer
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keywords import known_keywords_only

TOP = 5  # default number of classes to name
ROUNDING = 1e-3  # how far half precision may round a probability out of [0, 1]


@known_keywords_only
def decode_predictions(
    probabilities: ArrayLike, top: int = TOP, class_names: Sequence[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """Returns the most probable classes of each image by name.

    ```python
    probabilities = keras.ops.softmax(model(kc.preprocess(images, model)))
    for identifier, name, probability in kc.decode_predictions(probabilities, class_names=model.class_names)[0]:
        print(f"{name}: {probability:.1%}")
    ```

    Args:
        probabilities: Array or tensor of shape (B, num_classes) with values in [0, 1]. Rows need not sum to 1, since a
            sigmoid gives each class its own probability.
        top: Number of classes to return per image. Defaults to 5.
        class_names: Class names in the order of the probabilities, such as `model.class_names`. Defaults to None: the
            1,000 classes of ImageNet-1k.

    Returns:
        For each image a list of (identifier, name, probability), most probable first. The identifier is the WordNet ID
        for ImageNet classes and the name itself otherwise.

    Raises:
        ValueError: the shape does not match the class names, a value is not finite or more than 0.001 outside [0, 1],
            or `top` is not a positive integer.
    """
    top = require_integer("top", top, minimum=1)
    if isinstance(class_names, str):
        raise InvalidValueError(f"class_names {class_names!r} is a string; use a list, such as [{class_names!r}].")
    table = _as_array(probabilities)
    labels = imagenet_classes() if class_names is None else tuple((str(name), str(name)) for name in class_names)
    if table.ndim != 2 or table.shape[1] != len(labels):
        classes = f"the {len(labels)} classes of ImageNet" if class_names is None else f"{len(labels)} class names"
        raise InvalidValueError(
            f"probabilities of shape {table.shape} do not match {classes}; use the shape (B, {len(labels)}), or pass "
            "your own class names, such as class_names=model.class_names."
        )
    require_finite("probabilities", table)
    outside = (table < -ROUNDING) | (table > 1 + ROUNDING)
    if outside.any():
        raise InvalidValueError(
            f"probabilities has the value {table[outside][0]:g}, which is outside [0, 1]. If these are logits, apply "
            "keras.ops.softmax, or keras.ops.sigmoid for one class or several labels per image."
        )
    order = np.argsort(-table, axis=1, kind="stable")[:, :top]
    return [[(*labels[i], float(row[i])) for i in best] for row, best in zip(table, order, strict=True)]


def require_finite(label: str, table: np.ndarray) -> np.ndarray:
    """Returns an array of shape (B, num_classes), or raises ValueError if a value is not finite."""
    rows = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if rows.size:
        row = table[rows[0]]
        raise InvalidValueError(
            f"The {label} of image {rows[0]} hold {row[~np.isfinite(row)][0]}, which is not finite. Check the model's "
            "weights for NaN, and the image for values too large for the model's precision."
        )
    return table


def _as_array(values: ArrayLike) -> np.ndarray:
    if not isinstance(values, (np.ndarray, list, tuple)):
        import keras  # converts its backend's tensors; without Keras there are only arrays

        values = keras.ops.convert_to_numpy(values)
    return np.asarray(values, "float64")


def resolve_class_names(num_classes: int, class_names: Sequence[str] | None = None) -> list[str]:
    """Returns a model's class names; without any, ImageNet's for 1,000 classes, otherwise "class 0", "class 1" ..."""
    if class_names is not None:
        return [str(name) for name in class_names]
    if num_classes == len(imagenet_classes()):
        return [name for _, name in imagenet_classes()]
    return [f"class {number}" for number in range(num_classes)]


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """Returns (WordNet ID, name) of the 1,000 classes of ImageNet-1k, in the order of the official logits."""
    text = resources.files("keras_crossvit.preprocessing").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    identifiers_and_names = (line.split(" ", 1) for line in text.splitlines())
    return tuple((identifier, name) for identifier, name in identifiers_and_names)


def probability_function(classifier_activation: str | None, num_classes: int) -> str:
    """Returns "softmax" or "sigmoid": the function that turns the logits of a model into probabilities.

    A single logit is that of the class against its absence, and needs a sigmoid. Raises ValueError for an activation
    that only Keras can apply.
    """
    if classifier_activation not in (None, "linear", *PROBABILITIES_OF):
        raise InvalidValueError(
            f"classifier_activation {classifier_activation!r} needs Keras; use logits() and apply it there."
        )
    return "sigmoid" if num_classes == 1 or classifier_activation == "sigmoid" else "softmax"


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax of logits of shape (B, num_classes), in float64."""
    shifted = np.exp(logits.astype("float64") - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Returns the sigmoid of each logit, in float64."""
    return 0.5 * (1 + np.tanh(logits.astype("float64") / 2))


PROBABILITIES_OF: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"softmax": softmax, "sigmoid": sigmoid}
