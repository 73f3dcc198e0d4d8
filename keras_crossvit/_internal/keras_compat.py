"""What the package relies on in Keras beyond its public API. Written for Keras 3.15.

Each entry says why no public API does. `tests/internal/test_keras_compat.py` fails if Keras changes any of it.
"""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import numpy as np


def all_layers(model: Any) -> list[Any]:
    """Returns a model's layers and all layers inside them; `model.layers` only has the outermost."""
    return list(model._flatten_layers())


def quantized_layers(model: Any) -> list[Any]:
    """Returns the layers whose weights Keras has quantized."""
    return [layer for layer in all_layers(model) if getattr(layer, "quantization_mode", None)]


def unmerged_kernel(layer: Any) -> Any:
    """Returns a dense layer's kernel variable; the public `kernel` adds LoRA in the compute dtype, which rounds it."""
    return layer._kernel


def replace_dtype_policy(layer: Any, policy: Any) -> None:
    """Replaces a layer's dtype policy; the public setter would change the policy map that the layer shares."""
    layer._dtype_policy = policy


def decays(optimizer: Any, variable: Any) -> bool:
    """Returns whether an optimizer applies weight decay to a variable; Keras has no public way to ask."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return decays(optimizer.inner_optimizer, variable)
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return decays(optimizer._optimizer_map(variable), variable)
    # In a step on TensorFlow, Keras asks with TensorFlow's variable, which has another name, and caches the answer.
    return optimizer._use_weight_decay(variable.value if keras.backend.backend() == "tensorflow" else variable)


class FusedAdamW(keras.optimizers.AdamW):
    """AdamW with few operations per variable on TensorFlow.

    Keras has fifty, and computes the schedule again for each variable that decays. All of them are traced and optimized
    in the first step, which takes half the time without. Results differ by rounding: the bias is corrected in float64.
    `amsgrad` is ignored. On other backends the update is Keras' own.
    """

    def _apply_weight_decay(self, variables: Any) -> None:
        if keras.backend.backend() != "tensorflow":  # where the update does it, which has the learning rate already
            super()._apply_weight_decay(variables)

    def _distributed_tf_update_step(self, distribution: Any, grads_and_vars: Any, learning_rate: Any) -> None:
        import tensorflow as tf

        learning_rate = tf.cast(distribution.experimental_local_results(learning_rate)[0], tf.float32)  # all are equal
        decayed = learning_rate * self.weight_decay
        betas = np.array([self.beta_1, self.beta_2], "float32").astype("float64")  # as the operation rounds them
        bias = 1 - betas ** keras.ops.cast(self.iterations + 1, "float64")
        corrected = tf.cast(tf.cast(learning_rate, tf.float64) * tf.sqrt(bias[1]) / bias[0], tf.float32)

        def update(variable: Any, gradient: Any) -> None:
            if self._use_weight_decay(variable):
                variable.assign_sub(variable * tf.cast(decayed, variable.dtype))
            if variable.dtype != tf.float32:  # the correction is for betas rounded to float32
                self.update_step(gradient, variable, learning_rate)
                return
            index = self._get_variable_index(variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle,
                beta1_power=0.0,
                beta2_power=0.0,
                lr=corrected,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
            )

        for gradient, variable in grads_and_vars:
            distribution.extended.update(variable, update, args=(gradient,), group=False)

    def _update_model_variables_moving_average(self, trainable_variables: Any) -> None:
        factor = self.ema_momentum * keras.ops.cast(self.iterations != 0, "float32")
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            momentum = keras.ops.cast(factor, average.dtype)
            average.assign(momentum * average + (1 - momentum) * variable)


# Keras leaves the variables of optimizer and metrics to the first training step. On TensorFlow, a step that creates
# variables is traced twice, and what does not exist cannot be restored.

_PER_CLASS_LOSSES = {
    "categoricalcrossentropy",
    "categoricalfocalcrossentropy",
    "binarycrossentropy",
    "binaryfocalcrossentropy",
}


def build_before_first_step(model: Any) -> None:
    """Creates the variables of a compiled model's optimizer, and the metrics that were given as names or functions.

    Metrics depend on the targets' shape, so they are only created for Keras' classification losses. None is called.

    Args:
        model: A compiled model with one output.
    """
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    target = sample_target(model.loss, model.outputs[0])
    for metric in model.metrics:
        if target is not None and not getattr(metric, "built", True):
            metric.build(target, model.outputs[0])


def sample_target(loss: Any, output: Any) -> Any:
    """Returns a target of zeros for one image, or None if the loss is not one of Keras' classification losses.

    Args:
        loss: A loss as given to `compile`.
        output: The model's symbolic output, shape (B, num_classes).
    """
    if not isinstance(loss, str) and not callable(loss):
        return None
    loss = keras.losses.get(loss)
    function = loss if hasattr(loss, "__name__") else type(loss)
    name = function.__name__.replace("_", "").lower() if function.__module__.startswith("keras.") else ""
    if name == "sparsecategoricalcrossentropy":
        return keras.ops.zeros((1, *output.shape[1:-1]), "int32")
    return keras.ops.zeros((1, *output.shape[1:])) if name in _PER_CLASS_LOSSES else None


def build_training_variables(model: Any, target: Any) -> None:
    """Creates the variables of a compiled model's optimizer and metrics.

    Args:
        model: A compiled model with one output, or a `keras.distillation.Distiller` of one.
        target: A batch of targets; only its shape and dtype matter.
    """
    strategy = getattr(model, "distribute_strategy", None)  # TensorFlow's; its scope mirrors what is created inside
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


def ema_variables(optimizer: Any) -> list[tuple[Any, Any]]:
    """Returns every trained variable with the variable that holds its EMA; Keras has no public access to them."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of LossScaleOptimizer
    return [
        pair
        for each in getattr(optimizer, "optimizers", [optimizer])
        if each.use_ema
        for pair in zip(each._trainable_variables, each._model_variables_moving_average, strict=True)
    ]
