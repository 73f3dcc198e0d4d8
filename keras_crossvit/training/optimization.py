"""Optimizer, loss and metrics of a recipe, and a model compiled with them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_crossvit._internal.checks import require_positive
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.evaluation.metrics import TOP
from keras_crossvit.pipeline import ImageDataset
from keras_crossvit.training.finetuning import layer_wise_optimizer, no_weight_decay_variables
from keras_crossvit.training.recipes import Recipe


class EvaluateAverages(keras.callbacks.SwapEMAWeights):
    """Evaluates the running mean of the weights that an optimizer with `use_ema=True` keeps.

    On TensorFlow, Keras' own swaps by adding and subtracting, which rounds both sides in every evaluation; this one
    swaps the values, so that a run is the same with and without evaluations.
    """

    _tf_swap_variables = keras.callbacks.SwapEMAWeights._backend_swap_variables

    @contextlib.contextmanager
    def in_place(self, model: Any) -> Iterator[None]:
        """Context in which the model has the mean for weights."""
        self.set_model(model)
        self._swap_variables()
        try:
            yield
        finally:
            self._swap_variables()


BALANCED = "balanced"


def class_weights_of(requested: str | Mapping[str, float] | None, source: ImageDataset) -> tuple[float, ...] | None:
    """The weight of each class.

    Args:
        requested: Weights by name, those left out being 1; "balanced": all classes count alike, however many pictures each
            has; or None: nothing is weighed.
        source: The pictures.

    Returns:
        Weights in the order of the classes, or None.

    Raises:
        ValueError: the wish is neither, or names what is no class.
    """
    if requested is None:
        return None
    names = source.class_names
    if requested == BALANCED:
        labels = getattr(source.training, "labels", None)
        if labels is None:
            raise InvalidValueError(
                f"class_weights {BALANCED!r} needs labels that can be counted; give a weight per class."
            )
        counts = np.maximum(np.bincount(labels, minlength=len(names)), 1)
        return tuple(float(weight) for weight in len(labels) / (len(names) * counts))
    if not isinstance(requested, Mapping):
        raise InvalidValueError(
            f"class_weights {requested!r} are neither {BALANCED!r} nor a weight per class; give one of both."
        )
    unknown = sorted(set(requested) - set(names))
    if unknown:
        raise InvalidValueError(
            f"class_weights name '{unknown[0]}', which is no class; the classes are {', '.join(names)}."
        )
    return tuple(require_positive(f"class weight of '{name}'", requested.get(name, 1.0)) for name in names)


def weighted(batches: tf.data.Dataset, class_weights: Sequence[float] | None) -> tf.data.Dataset:
    """Batches of (inputs, target) with the weight of each picture as a third; as they are where there are none."""
    if class_weights is None:
        return batches
    weights = tf.constant(class_weights, tf.float32)
    # Mixed targets weigh as their shares do, where Keras' own class_weight takes the largest for the whole.
    return batches.map(lambda inputs, target: (inputs, target, tf.reduce_sum(target * weights, axis=-1)))


_MOMENTUM = 0.9  # of SGD


def make_optimizer(model: Any, recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The recipe's optimizer for a `CrossViT`, not built yet.

    Args:
        model: The model to train.
        recipe: Its recipe.
        steps_per_epoch: Steps of an epoch, of `recipe.step_size` pictures each.

    Returns:
        A Keras optimizer with the schedule as its learning rate, without weight decay on biases, norms, class tokens
        and position embeddings; with `layer_decay` a `keras.optimizers.MultiOptimizer`.
    """
    accumulation = recipe.accumulation_steps
    arguments = {
        "learning_rate": recipe.schedule(steps_per_epoch),
        "weight_decay": recipe.weight_decay,
        "global_clipnorm": recipe.clip_norm,
        "gradient_accumulation_steps": accumulation if accumulation > 1 else None,
    }
    if recipe.ema_momentum is not None:
        # Keras updates the mean after every part of a batch; this many of them forget as much as one batch should.
        momentum = recipe.ema_momentum_over(steps_per_epoch) ** (1 / accumulation)
        arguments |= {"use_ema": True, "ema_momentum": momentum}
    optimizer = _OPTIMIZERS[recipe.optimizer](**arguments)
    excluded = no_weight_decay_variables(model)
    if recipe.layer_decay is not None:
        return layer_wise_optimizer(model, optimizer, decay=recipe.layer_decay, exclude_from_weight_decay=excluded)
    optimizer.exclude_from_weight_decay(excluded)
    return optimizer


def make_loss(recipe: Recipe) -> keras.losses.Loss:
    """The recipe's loss, on logits and dense targets; smoothing is the augmentation's."""
    if recipe.loss == "binary":
        return keras.losses.BinaryCrossentropy(from_logits=True)
    return keras.losses.CategoricalCrossentropy(from_logits=True)


def make_metrics(recipe: Recipe, num_classes: int) -> list[keras.metrics.Metric]:
    """Metrics of a run: accuracy, and top-5 accuracy or the area under the precision-recall curve."""
    if recipe.loss == "binary":
        return [
            _BinaryAccuracy(name="binary_accuracy", threshold=0.0),  # of a logit, which is a probability of 1/2
            _AreaUnderCurve(curve="PR", multi_label=True, num_labels=num_classes, from_logits=True, name="auc_pr"),
        ]
    metrics = [keras.metrics.CategoricalAccuracy(name="accuracy")]
    if num_classes > TOP:
        metrics.append(keras.metrics.TopKCategoricalAccuracy(TOP, name=f"top_{TOP}_accuracy"))
    return metrics


class _BinaryAccuracy(keras.metrics.BinaryAccuracy):
    """Takes targets that are smoothed or mixed for what they are most, where Keras' own counts them all as wrong."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(_binarize(y_true), y_pred, sample_weight)


class _AreaUnderCurve(keras.metrics.AUC):
    """The same, where Keras' own takes every target above 0 for a yes."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(_binarize(y_true), y_pred, sample_weight)


def _binarize(target: Any) -> Any:
    return keras.ops.cast(keras.ops.greater(target, 0.5), "float32")


def compile_for_recipe(
    model: Any,
    recipe: Recipe,
    *,
    steps_per_epoch: int,
    trained: Any = None,
    jit_compile: bool = False,
) -> None:
    """Compiles a model with the recipe's optimizer, loss and metrics.

    Where pictures have weights, metrics count by them as the loss does.

    Args:
        model: A `CrossViT`, or a model around one.
        recipe: The recipe.
        steps_per_epoch: Steps of an epoch.
        trained: The `CrossViT` within `model`. Defaults to None: `model` itself.
        jit_compile: Whether XLA compiles the step, which takes minutes on a CPU. Defaults to False. On the JAX backend
            it always does, which else runs operation by operation.
    """
    trained = model if trained is None else trained
    optimizer = make_optimizer(trained, recipe, steps_per_epoch)
    if recipe.precision == "mixed_float16":
        # Keras does so for a CrossViT itself, but not for a model around one.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer=optimizer,
        loss=make_loss(recipe),
        weighted_metrics=make_metrics(recipe, trained.config.num_classes),
        jit_compile=jit_compile or keras.backend.backend() == "jax",
        auto_scale_loss=False,
    )


def learning_rate_now(optimizer: keras.optimizers.Optimizer) -> float:
    """Learning rate of the next step; with layer-wise rates the heads', which is the largest."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    rates = [float(each.learning_rate) for each in getattr(inner, "optimizers", [inner])]
    return max(rate for rate in rates if math.isfinite(rate))


def _sgd(weight_decay: float, **arguments: Any) -> keras.optimizers.Optimizer:
    # PyTorch adds the decay to the gradient, and momentum passes it on: a step's decay counts 1 / (1 - momentum) times
    # before it fades. Keras applies its own once.
    return keras.optimizers.SGD(
        momentum=_MOMENTUM, nesterov=True, weight_decay=weight_decay / (1 - _MOMENTUM), **arguments
    )


_OPTIMIZERS = {
    "adamw": lambda **arguments: keras.optimizers.AdamW(beta_1=0.9, beta_2=0.999, epsilon=1e-8, **arguments),
    "lion": keras.optimizers.Lion,
    "sgd": _sgd,
}
