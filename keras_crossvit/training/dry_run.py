"""Describes a planned run without training: steps, learning rates, weight decay, memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import keras

from keras_crossvit.training.distributed import Distribution
from keras_crossvit.training.finetuning import no_weight_decay_variables
from keras_crossvit.training.plan import Plan, list_classes
from keras_crossvit.training.recipes import Recipe

_WIDTH, _HEIGHT = 64, 8
_BLOCKS = " ▁▂▃▄▅▆▇█"
_OPTIMIZER_SLOTS = {"adamw": 2, "lion": 1, "sgd": 1}  # arrays per trained variable


def describe_plan(plan: Plan, distribution: Distribution | None = None) -> str:
    """Returns a description of a run: data, model, steps, weight decay, memory and a plot of the learning rate.

    Args:
        plan: The plan, from `plan_training`.
        distribution: Devices that share the run, from `plan_distribution`. Defaults to None: one device.

    Raises:
        InvalidValueError: these devices cannot run the recipe.
    """
    recipe, dataset = plan.recipe, plan.dataset
    distribution = distribution or Distribution()
    distribution.check(recipe)
    model = plan.build_model()
    excluded = _count(no_weight_decay_variables(model))
    trained = _count(model.trainable_variables)
    steps = recipe.epochs * plan.steps_per_epoch
    unused = len(dataset.training) - plan.steps_per_epoch * recipe.micro_batch_size
    ema_momentum = recipe.effective_ema_momentum(plan.steps_per_epoch)
    small, large = plan.config.img_size
    batch = f"{recipe.batch_size} images"
    if recipe.gradient_accumulation_steps > 1:
        batch = f"{recipe.gradient_accumulation_steps} x {recipe.micro_batch_size} images, accumulated"
    rows = [
        ("Recipe", recipe.source),
        ("Expected", recipe.expected),
        (
            "Images",
            f"{len(dataset.training):,} for training, {len(dataset.validation or ()):,} for validation, "
            f"{len(dataset.class_names)} classes",
        ),
        ("", f"{unused:,} training images are left out of each epoch, others each time" if unused else ""),
        ("Classes", list_classes(dataset.class_names)),
        (
            "Model",
            f"{plan.name}, image sizes {small} and {large}, {model.count_params():,} parameters, {recipe.precision}, "
            f"from {plan.weights or 'random weights'}",
        ),
        ("Steps", f"{recipe.epochs} epochs of {plan.steps_per_epoch:,}, {steps:,} in total; batch of {batch}"),
        ("EMA", "" if ema_momentum is None else f"of the weights is evaluated and saved, momentum {ema_momentum:.4g}"),
        (
            "Decay",
            f"{recipe.weight_decay:g} on {trained - excluded:,} parameters; none on {excluded:,} in biases, norms, "
            "class tokens and position embeddings",
        ),
        ("Devices", "" if distribution.mode is None else distribution.describe()),
        (
            "Memory",
            f"{training_state_bytes(recipe, _count(model.variables), trained) / 2**30:.2f} GiB per device for weights, "
            f"gradients and optimizer, plus activations for {recipe.micro_batch_size // distribution.devices} images",
        ),
    ]
    return "\n".join(
        [
            *(f"{label:12}{text}" for label, text in rows if text),
            f"Learning rate by epoch, peak {recipe.peak_learning_rate:.3g} ({recipe.optimizer})",
            *_plot(_learning_rates(recipe, plan.steps_per_epoch), recipe.epochs),
        ]
    )


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


def _learning_rates(recipe: Recipe, steps_per_epoch: int) -> list[float]:
    schedule, last = recipe.schedule(steps_per_epoch), recipe.epochs * steps_per_epoch - 1
    return [float(schedule(round(last * i / (_WIDTH - 1)))) for i in range(_WIDTH)]


def _plot(values: Sequence[float], epochs: int) -> list[str]:
    largest = max(values)
    heights = [round(value / largest * _HEIGHT * 8) for value in values]
    lines = []
    for row in reversed(range(_HEIGHT)):
        label = f"{largest * (row + 1) / _HEIGHT:9.2e}" if row % 2 else " " * 9
        lines.append(f"{label} |" + "".join(_BLOCKS[min(8, max(0, height - 8 * row))] for height in heights))
    lines.append(" " * 10 + "+" + "-" * _WIDTH)
    lines.append(" " * 11 + f"0{f'epoch {epochs}':>{_WIDTH - 1}}")
    return lines
