"""How much each class counts in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from keras_crossvit.checks import require_positive
from keras_crossvit.pipeline import Source

BALANCED = "balanced"


def class_weights_of(wish: str | Mapping[str, float] | None, source: Source) -> tuple[float, ...] | None:
    """The weight of each class.

    Args:
        wish: Weights by name, those left out being 1; "balanced": all classes count alike, however many pictures each
            has; or None: nothing is weighed.
        source: The pictures.

    Returns:
        Weights in the order of the classes, or None.

    Raises:
        ValueError: the wish is neither, or names what is no class.
    """
    if wish is None:
        return None
    names = source.class_names
    if wish == BALANCED:
        labels = getattr(source.training, "labels", None)
        if labels is None:
            raise ValueError(f"class_weights {BALANCED!r} needs labels that can be counted; give a weight per class.")
        counts = np.maximum(np.bincount(labels, minlength=len(names)), 1)
        return tuple(float(weight) for weight in len(labels) / (len(names) * counts))
    if not isinstance(wish, Mapping):
        raise ValueError(f"class_weights {wish!r} are neither {BALANCED!r} nor a weight per class; give one of both.")
    unknown = sorted(set(wish) - set(names))
    if unknown:
        raise ValueError(f"class_weights name '{unknown[0]}', which is no class; the classes are {', '.join(names)}.")
    return tuple(require_positive(f"class weight of '{name}'", wish.get(name, 1.0)) for name in names)


def weighted(batches: tf.data.Dataset, class_weights: Sequence[float] | None) -> tf.data.Dataset:
    """Batches of (inputs, target) with the weight of each picture as a third; as they are where there are none."""
    if class_weights is None:
        return batches
    weights = tf.constant(class_weights, tf.float32)
    # Mixed targets weigh as their shares do, where Keras' own class_weight takes the largest for the whole.
    return batches.map(lambda inputs, target: (inputs, target, tf.reduce_sum(target * weights, axis=-1)))
