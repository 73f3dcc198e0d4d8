"""Describes a planned run without training: steps, learning rates, weight decay, memory."""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras

from keras_crossvit._internal.user_text import one_line
from keras_crossvit.training.distributed import Distribution
from keras_crossvit.training.finetuning import freeze_all_but_head, no_weight_decay_variables
from keras_crossvit.training.plan import Plan, list_classes
from keras_crossvit.training.recipes import Recipe

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 64  # of the learning rate's plot
_OPTIMIZER_SLOTS = {"adamw": 2, "lion": 1, "sgd": 1}  # arrays per trained variable


def describe_plan(plan: Plan, distribution: Distribution | None = None) -> str:
    """Returns a description of a run: data, model, steps, learning rate, weight decay and memory.

    Args:
        plan: The plan, from `plan_training`.
        distribution: Devices that share the run, from `plan_distribution`. Defaults to None: one device.

    Raises:
        InvalidValueError: these devices cannot run the recipe.
    """
    recipe, dataset = plan.recipe, plan.dataset
    distribution = distribution or Distribution()
    distribution.check(recipe)
    model = plan.build_model(copy=recipe.probe)
    if recipe.probe:
        freeze_all_but_head(model)
    excluded = _count(no_weight_decay_variables(model))
    trained = _count(model.trainable_variables)
    steps = recipe.epochs * plan.steps_per_epoch
    unused = len(dataset.training) - plan.steps_per_epoch * recipe.micro_batch_size
    ema_momentum = recipe.effective_ema_momentum(plan.steps_per_epoch)
    small, large = plan.config.img_size
    batch = f"{recipe.batch_size} images"
    if recipe.gradient_accumulation_steps > 1:
        batch = f"{recipe.gradient_accumulation_steps} x {recipe.micro_batch_size} images, accumulated"
    images = f"{len(dataset.training):,} for training, {len(dataset.validation or ()):,} for validation"
    memory = training_state_bytes(recipe, model.count_params(), trained) / 2**30
    if recipe.probe:
        work = [("Probe", f"features once, then at most {recipe.epochs} iterations of L-BFGS")]
        unused = 0
    else:
        work = [
            ("Steps", f"{recipe.epochs} epochs of {plan.steps_per_epoch:,}, {steps:,} in total; batch of {batch}"),
            ("Learning", f"rate rises to {recipe.peak_learning_rate:.3g} and decays ({recipe.optimizer})"),
            ("", _plot_learning_rate(recipe, plan.steps_per_epoch)),
        ]
    rows = [
        ("Recipe", recipe.source),
        ("Expected", recipe.expected),
        ("Images", f"{images}, {len(dataset.class_names)} classes"),
        ("", f"{unused:,} training images are left out of each epoch, others each time" if unused else ""),
        ("Classes", list_classes(dataset.class_names)),
        ("Model", f"{plan.name}, {model.count_params():,} parameters, from {plan.weights or 'random weights'}"),
        ("", f"image sizes {small} and {large}, precision {recipe.precision}"),
        *work,
        ("EMA", "" if ema_momentum is None else f"of the weights is evaluated and saved, momentum {ema_momentum:.4g}"),
        ("Decay", f"{recipe.weight_decay:g} on {trained - excluded:,} parameters"),
        ("", f"none on {excluded:,} in biases, norms, class tokens and position embeddings"),
        ("Devices", "" if distribution.mode is None else distribution.describe()),
        ("Memory", f"{memory:.2f} GiB for weights, gradients and optimizer, on each device"),
        ("", f"and activations for a step of {recipe.micro_batch_size // distribution.devices} images on each device"),
    ]
    return "\n".join(f"{label:12}{one_line(text)}" for label, text in rows if text)


def training_state_bytes(recipe: Recipe, parameters: int, trained: int) -> int:
    """Returns the bytes of weights, gradients and optimizer, which are all float32.

    Args:
        recipe: The recipe.
        parameters: Number of parameters of the model.
        trained: Number of parameters that are trained.
    """
    copies = 1 + _OPTIMIZER_SLOTS[recipe.optimizer]  # the gradient, and the optimizer's
    copies += (recipe.ema_momentum is not None) + (recipe.gradient_accumulation_steps > 1)
    return 4 * (parameters + copies * trained)


def _count(variables: Iterable[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _plot_learning_rate(recipe: Recipe, steps_per_epoch: int) -> str:
    """Bars from the first epoch to the last."""
    schedule, last = recipe.schedule(steps_per_epoch), recipe.epochs * steps_per_epoch - 1
    rates = [float(schedule(round(last * i / (_WIDTH - 1)))) for i in range(_WIDTH)]
    return "".join(_BARS[round(rate / max(rates) * (len(_BARS) - 1))] for rate in rates)
