"""From probabilities to the names of classes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from keras_crossvit.checks import require_integer

TOP = 5  # classes that are named where nobody asks for another number


def decode_predictions(
    probabilities: Any, top: int = TOP, classes: Sequence[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """Names the most probable classes of each picture.

    Args:
        probabilities: Array or tensor of shape (B, num_classes).
        top: How many classes to name. Defaults to 5.
        classes: Names of the classes, in the order of the probabilities, such as `model.classes`. Defaults to None:
            the 1,000 of ImageNet-1k.

    Returns:
        For each picture (identifier, name, probability) of its `top` most probable classes, most probable first. The
        identifier is the one of WordNet for ImageNet, and else the name.

    Raises:
        ValueError: the probabilities have another shape, or `top` is not a positive integer.
    """
    top = require_integer("top", top, minimum=1)
    table = _as_array(probabilities)
    labels = imagenet_classes() if classes is None else tuple((str(name), str(name)) for name in classes)
    if table.ndim != 2 or table.shape[1] != len(labels):
        whose = f"the {len(labels)} of ImageNet" if classes is None else f"{len(labels)} class names"
        raise ValueError(
            f"probabilities of shape {table.shape} do not fit {whose}; give the shape (pictures, {len(labels)}), or "
            "the names of your classes as classes=..., such as model.classes."
        )
    order = np.argsort(-table, axis=1, kind="stable")[:, :top]
    return [[(*labels[i], float(row[i])) for i in best] for row, best in zip(table, order, strict=True)]


def _as_array(values: Any) -> np.ndarray:
    if not isinstance(values, (np.ndarray, list, tuple)):
        import keras  # a tensor of its backend; where there is no Keras, there are arrays alone

        values = keras.ops.convert_to_numpy(values)
    return np.asarray(values)


def names_of_classes(num_classes: int, classes: Sequence[str] | None = None) -> list[str]:
    """Names for those who give no table of their own.

    Args:
        num_classes: How many classes a model tells apart.
        classes: The model's own names. Defaults to None: ImageNet's for 1,000 classes, and else "class 0" and so on.

    Returns:
        A name per class, in the order of the logits.
    """
    if classes is not None:
        return [str(name) for name in classes]
    if num_classes == len(imagenet_classes()):
        return [name for _, name in imagenet_classes()]
    return [f"class {number}" for number in range(num_classes)]


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """(WordNet identifier, name) of the 1,000 classes of ImageNet-1k, in the order of the official logits."""
    text = resources.files("keras_crossvit.data").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(tuple(line.split(" ", 1)) for line in text.splitlines())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits of shape (B, classes), in float64."""
    shifted = np.exp(logits.astype("float64") - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits of which each stands for itself, in float64."""
    return 0.5 * (1 + np.tanh(logits.astype("float64") / 2))
