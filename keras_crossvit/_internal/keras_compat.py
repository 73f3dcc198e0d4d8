"""Variables of optimizer and metrics, made before the first step."""

from __future__ import annotations

import contextlib
from typing import Any

import keras

_SPARSE = (keras.losses.SparseCategoricalCrossentropy, keras.losses.sparse_categorical_crossentropy)
_DENSE = (
    keras.losses.CategoricalCrossentropy,
    keras.losses.categorical_crossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    keras.losses.categorical_focal_crossentropy,
    keras.losses.BinaryCrossentropy,
    keras.losses.binary_crossentropy,
    keras.losses.BinaryFocalCrossentropy,
    keras.losses.binary_focal_crossentropy,
)


def build_training_variables(model: keras.Model, target: Any) -> None:
    """Makes the variables of a compiled model's optimizer and metrics.

    There they can be restored; and under TensorFlow, where Keras leaves them to the first step, a step in which
    variables come up is traced twice.

    Args:
        model: A compiled model of one output, or a `keras.distillation.Distiller` of one.
        target: A batch of targets, of which shape and dtype matter alone.
    """
    strategy = getattr(model, "distribute_strategy", None)  # of TensorFlow, whose scope mirrors what is made in it
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        output = getattr(model, "student", model).outputs[0]
        sample = (None, target, keras.ops.zeros((1, *output.shape[1:])))
        if strategy is None:
            model.compute_metrics(*sample)
        else:
            strategy.run(model.compute_metrics, sample)  # mirrored metrics count on each replica
        model.reset_metrics()


def build_before_tracing(model: keras.Model) -> None:
    """Makes the variables of a compiled model's optimizer, and of the metrics that Keras makes of names and functions.

    Keras under TensorFlow leaves them to the first step, which is traced twice then. Metrics are made where the loss is
    one of Keras' for classes, whose targets are known; none is called.

    Args:
        model: A compiled model of one output.
    """
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    target = target_of_loss(model.loss, model.outputs[0])
    for metric in model.metrics:
        if target is not None and not getattr(metric, "built", True):
            metric.build(target, model.outputs[0])


def target_of_loss(loss: Any, output: Any) -> Any:
    """A target of one picture, of zeros, or None where it is none of Keras' losses for classes.

    Args:
        loss: As given to `compile`.
        output: The model's symbolic output, shape (B, num_classes).
    """
    if not isinstance(loss, str) and not callable(loss):
        return None
    loss = keras.losses.get(loss)
    if _is_one_of(loss, _SPARSE):
        return keras.ops.zeros((1, *output.shape[1:-1]), "int32")
    return keras.ops.zeros((1, *output.shape[1:])) if _is_one_of(loss, _DENSE) else None


def _is_one_of(loss: Any, known: tuple[Any, ...]) -> bool:
    return type(loss) in known or loss in known


def all_layers(model: Any) -> list[Any]:
    """Returns a model's layers and all layers inside them; `model.layers` only has the outermost."""
    return list(model._flatten_layers())


def quantized_layers(model: Any) -> list[Any]:
    """Returns the layers whose weights Keras has quantized."""
    return [layer for layer in all_layers(model) if getattr(layer, "quantization_mode", None)]
