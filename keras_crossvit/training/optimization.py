"""Optimizer, loss, metrics and class weights of a recipe, and the EMA of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_crossvit._internal.checks import require_positive
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keras_compat import ema_variables
from keras_crossvit._internal.optimizers import FusedAdamWWithExclusions
from keras_crossvit.evaluation.metrics import TOP
from keras_crossvit.pipeline import ImageDataset
from keras_crossvit.pipeline.elements import map_elements
from keras_crossvit.training.finetuning import layer_wise_optimizer, no_weight_decay_variables
from keras_crossvit.training.recipes import Recipe
from keras_crossvit.training.state import StatefulCallback

BALANCED = "balanced"
_MOMENTUM = 0.9  # of SGD


def compile_for_recipe(
    model: keras.Model,
    recipe: Recipe,
    *,
    steps_per_epoch: int,
    trained: Any = None,
    jit_compile: bool = False,
) -> None:
    """Compiles a model with the recipe's optimizer, loss and metrics; sample weights apply to loss and metrics.

    Args:
        model: A `CrossViT`, or a model around one.
        recipe: The recipe.
        steps_per_epoch: Steps of an epoch.
        trained: The `CrossViT` inside `model`. Defaults to None: `model` itself.
        jit_compile: Whether XLA compiles the step, which takes minutes on a CPU. Defaults to False. The JAX backend
            always compiles: it is slow operation by operation.
    """
    trained = model if trained is None else trained
    optimizer = make_optimizer(trained, recipe, steps_per_epoch)
    if recipe.precision == "mixed_float16":
        # Keras scales the loss of a CrossViT by itself, but not that of a model around one.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer=optimizer,
        loss=make_loss(recipe),
        weighted_metrics=make_metrics(recipe, trained.config.num_classes),
        jit_compile=jit_compile or keras.backend.backend() == "jax",
        auto_scale_loss=False,
    )


def make_optimizer(model: Any, recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Returns the recipe's optimizer for a `CrossViT`, not built yet.

    Args:
        model: The `CrossViT` to train.
        recipe: The recipe.
        steps_per_epoch: Steps of an epoch, of `recipe.micro_batch_size` images each.

    Returns:
        A Keras optimizer with the schedule as its learning rate and without weight decay on biases, norms, class
        tokens and position embeddings; a `keras.optimizers.MultiOptimizer` if the recipe has `layer_decay`.
    """
    accumulation = recipe.gradient_accumulation_steps
    arguments: dict[str, Any] = {
        "learning_rate": recipe.schedule(steps_per_epoch),
        "weight_decay": recipe.weight_decay,
        "global_clipnorm": recipe.global_clipnorm,
        "gradient_accumulation_steps": accumulation if accumulation > 1 else None,
    }
    if (momentum := recipe.effective_ema_momentum(steps_per_epoch)) is not None:
        # Keras updates the EMA after every micro-batch; those of one batch together must weigh as much as one update.
        arguments |= {"use_ema": True, "ema_momentum": momentum ** (1 / accumulation)}
    if recipe.optimizer == "adamw":
        adamw = FusedAdamWWithExclusions if keras.backend.backend() == "tensorflow" else keras.optimizers.AdamW
        optimizer = adamw(beta_1=0.9, beta_2=0.999, epsilon=1e-8, **arguments)
    elif recipe.optimizer == "lion":
        optimizer = keras.optimizers.Lion(**arguments)
    else:
        # PyTorch adds the decay to the gradient, so momentum multiplies it by 1 / (1 - momentum). Keras does not.
        arguments["weight_decay"] /= 1 - _MOMENTUM
        optimizer = keras.optimizers.SGD(momentum=_MOMENTUM, nesterov=True, **arguments)
    excluded = no_weight_decay_variables(model)
    if recipe.layer_decay is not None:
        return layer_wise_optimizer(model, optimizer, decay=recipe.layer_decay, exclude_from_weight_decay=excluded)
    optimizer.exclude_from_weight_decay(excluded)
    return optimizer


def learning_rate_now(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the learning rate of the next step; with layer-wise rates the heads', which is the largest."""
    return float(optimizer.learning_rate)


def make_loss(recipe: Recipe) -> keras.losses.Loss:
    """Returns the recipe's loss on logits and dense targets, which the augmentation has smoothed already."""
    if recipe.loss == "binary":
        return keras.losses.BinaryCrossentropy(from_logits=True)
    return keras.losses.CategoricalCrossentropy(from_logits=True)


def make_metrics(recipe: Recipe, num_classes: int) -> list[keras.metrics.Metric]:
    """Returns the metrics of a run: accuracy, and top-5 accuracy or the area under the precision-recall curve."""
    if recipe.loss == "binary":
        return [
            _BinaryAccuracy(name="binary_accuracy", threshold=0.0),  # logit 0 is probability 1/2
            _AreaUnderCurve(curve="PR", multi_label=True, num_labels=num_classes, from_logits=True, name="auc_pr"),
        ]
    metrics: list[keras.metrics.Metric] = [keras.metrics.CategoricalAccuracy(name="accuracy")]
    if num_classes > TOP:
        metrics.append(keras.metrics.TopKCategoricalAccuracy(TOP, name=f"top_{TOP}_accuracy"))
    return metrics


class _BinarizedTargets:
    """Rounds smoothed and mixed targets, which Keras' metrics count as wrong or, above 0, as positive."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(keras.ops.cast(keras.ops.greater(y_true, 0.5), "float32"), y_pred, sample_weight)  # type: ignore[misc]  # of the metric


class _BinaryAccuracy(_BinarizedTargets, keras.metrics.BinaryAccuracy):
    pass


class _AreaUnderCurve(_BinarizedTargets, keras.metrics.AUC):
    pass


def resolve_class_weights(
    requested: str | Mapping[str, float] | None, dataset: ImageDataset
) -> tuple[float, ...] | None:
    """Returns the weight of each class, in the order of the classes.

    Args:
        requested: Weights by class name (1 for classes not named); "balanced": weights inversely proportional to the
            number of images, so that all classes count the same; or None.
        dataset: The images.

    Raises:
        InvalidValueError: it is none of these, or names an unknown class.
    """
    if requested is None:
        return None
    names = dataset.class_names
    if requested == BALANCED:
        labels = getattr(dataset.training, "labels", None)
        if labels is None:
            raise InvalidValueError(
                f"class_weights {BALANCED!r} needs the labels before training, and this dataset does not have them; "
                "give one weight per class."
            )
        counts = np.maximum(np.bincount(labels, minlength=len(names)), 1)
        return tuple(float(weight) for weight in len(labels) / (len(names) * counts))
    if not isinstance(requested, Mapping):
        raise InvalidValueError(
            f"class_weights {requested!r} is neither {BALANCED!r} nor a mapping; give weights by class name."
        )
    unknown = sorted(set(requested) - set(names))
    if unknown:
        raise InvalidValueError(f"class_weights name '{unknown[0]}', but the classes are {', '.join(names)}.")
    return tuple(require_positive(f"class weight of '{name}'", requested.get(name, 1.0)) for name in names)


def add_sample_weights(batches: tf.data.Dataset, class_weights: Sequence[float] | None) -> tf.data.Dataset:
    """Returns batches of (inputs, target, sample weight), or the batches unchanged without class weights."""
    if class_weights is None:
        return batches
    weights = tf.constant(class_weights, tf.float32)
    # A mixed target gets the mean weight of its classes; Keras' class_weight would take that of the larger part.
    return map_elements(batches, lambda inputs, target: (inputs, target, tf.reduce_sum(target * weights, axis=-1)))


class EvaluateEMA(StatefulCallback):
    """Evaluates the EMA of the weights, which an optimizer with `use_ema=True` keeps, instead of the weights.

    Keras' `SwapEMAWeights` adds and subtracts on TensorFlow, which rounds the weights at every evaluation. This one
    exchanges values, so evaluation does not change the run.
    """

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Puts the EMA into the model."""
        self._swap()

    def on_test_end(self, logs: dict | None = None) -> None:
        """Puts the weights back."""
        self._swap()

    @contextlib.contextmanager
    def in_place(self, model: keras.Model) -> Iterator[None]:
        """Context in which the model has its EMA as weights."""
        self.set_model(model)
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for variable, average in ema_variables(self.model.optimizer):
            value = np.array(keras.ops.convert_to_numpy(variable))  # a copy
            variable.assign(average)
            average.assign(value)
