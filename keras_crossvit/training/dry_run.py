"""What a run would do, in words: steps, learning rates, weight decay, memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_crossvit.models.config import BRANCHES, STEM_STRIDES, CrossViTConfig
from keras_crossvit.training.distributed import Distribution
from keras_crossvit.training.finetuning import no_weight_decay_variables
from keras_crossvit.training.plan import Plan, listed_classes
from keras_crossvit.training.recipes import Recipe

_WIDTH, _HEIGHT = 64, 8
_EIGHTHS = " ▁▂▃▄▅▆▇█"
# Arrays that the optimizer keeps per variable.
_SLOTS = {"adamw": 2, "lion": 1, "sgd": 1}


def describe_plan(plan: Plan, distribution: Distribution | None = None) -> str:
    """Steps, learning rates as a plot, parameters with and without decay and a memory estimate; nothing is trained.

    Args:
        plan: What `plan_training` settled.
        distribution: The devices that share the run, as `plan_distribution` gives them. Defaults to None: one.

    Returns:
        Lines to print.

    Raises:
        ValueError: these devices cannot run the recipe.
    """
    recipe, source = plan.recipe, plan.source
    distribution = distribution or Distribution()
    distribution.check(recipe)
    adaptations: list[str] = []
    model = plan.build_model(report=adaptations.append)
    excluded = sum(_size(variable) for variable in no_weight_decay_variables(model))
    trained = sum(_size(variable) for variable in model.trainable_variables)
    steps = recipe.epochs * plan.steps_per_epoch
    left_over = len(source.training) - plan.steps_per_epoch * recipe.step_size
    mean = recipe.ema_momentum_over(plan.steps_per_epoch)
    batch = f"{recipe.batch_size} pictures"
    if recipe.accumulation_steps > 1:
        batch = f"{recipe.accumulation_steps} x {recipe.step_size} pictures, accumulated"
    images = recipe.step_size // distribution.devices
    state, activations = memory_estimate(plan.config, recipe, trained, images, recompute=plan.gradient_checkpointing)
    place = "" if distribution.mode is None else " on each device"
    sizes = ", ".join(str(size) for size in plan.config.img_size)
    return "\n".join(
        [
            f"Recipe      {recipe.source}",
            f"Expected    {recipe.expected}",
            f"Pictures    {len(source.training):,} to learn from, {len(source.validation or ()):,} held out, "
            f"{len(source.class_names)} classes",
            *([f"            {left_over:,} of them left over in each epoch, others each time"] if left_over else []),
            f"Classes     {listed_classes(source.class_names)}",
            f"Model       {plan.name} at {sizes} pixels, {model.count_params():,} parameters, {recipe.precision}, "
            f"from {'fresh weights' if plan.weights is None else plan.weights}",
            *(f"            {line}" for line in adaptations),
            f"Steps       {recipe.epochs} epochs of {plan.steps_per_epoch:,}, {steps:,} in all; batch of {batch}",
            *([] if mean is None else [f"Mean        of the weights is evaluated and saved, momentum {mean:.4g}"]),
            f"Decay       {recipe.weight_decay:g} on {trained - excluded:,} parameters; none on {excluded:,} in "
            "biases, norms, class tokens and position embeddings",
            *([] if distribution.mode is None else [f"Devices     {distribution.describe()}"]),
            f"Memory      {_gibibytes(state)} for weights and optimizer, about {_gibibytes(activations)} for a step of "
            f"{images} pictures{place}; beside it 1.5 GiB of main memory for TensorFlow",
            f"Learning rate by epoch, peak {recipe.peak_learning_rate:.3g} ({recipe.optimizer})",
            *_plot(_rates(recipe, plan.steps_per_epoch), recipe.epochs),
        ]
    )


def memory_estimate(
    config: CrossViTConfig, recipe: Recipe, parameters: int, images: int, *, recompute: bool
) -> tuple[int, int]:
    """Bytes of weights with optimizer and gradients, and of what a step keeps for the gradient.

    Args:
        config: The architecture.
        recipe: Says optimizer and precision.
        parameters: Parameters that are trained.
        images: How many go through the model at once.
        recompute: Whether attention and MLPs are computed again for the gradient.

    Returns:
        Both in bytes. The second counts what the gradient needs of a step, and the gradients of a block. Peaks of main
        memory that were measured, less 1.5 GiB for TensorFlow, were within a tenth of the sum.
    """
    copies = 2 + _SLOTS[recipe.optimizer] + (recipe.ema_momentum is not None) + (recipe.accumulation_steps > 1)
    size = 4 if recipe.precision == "float32" else 2
    activations = sum(_bytes_of_branch(config, b, size, recompute=recompute) for b in range(len(BRANCHES)))
    return parameters * 4 * copies, images * activations


def _bytes_of_branch(config: CrossViTConfig, b: int, size: int, *, recompute: bool) -> int:
    (height, width), (rows, columns), channels = config.image_sizes[b], config.patch_grids[b], config.embed_dim[b]
    tokens = 1 + rows * columns
    scores, hidden = config.num_heads[b] * tokens, int(channels * config.mlp_ratio[b])
    norms = 8 * channels * 4  # what Keras computes of both norms, in float32 under mixed precision too
    around = norms + 4 * channels * size  # residuals and drop-paths
    within = (5 * channels + 2 * scores + 3 * hidden) * size  # queries, keys, values, context; scores and shares; MLP
    blocks = sum(stage[b] for stage in config.depth)
    # The gradients of one block at a time, and its values where they are computed again.
    kept = blocks * around + (2 * within if recompute else (blocks + 1) * within)
    fusions = len(config.depth) * 3 * channels * size  # its tokens are joined, normalised and joined again
    stem = height * width * config.in_channels
    if config.multi_conv:
        first, second, _ = STEM_STRIDES[config.patch_size[b]]
        stem += height * width // first**2 * channels // 2 + height * width // (first * second) ** 2 * channels
    return tokens * (kept + fusions) + stem * size


def _rates(recipe: Recipe, steps_per_epoch: int) -> list[float]:
    schedule, steps = recipe.schedule(steps_per_epoch), recipe.epochs * steps_per_epoch
    places = [round(i * (steps - 1) / (_WIDTH - 1)) for i in range(_WIDTH)]
    return [float(keras.ops.convert_to_numpy(schedule(step))) for step in places]


def _plot(values: Sequence[float], epochs: int) -> list[str]:
    largest = max(values)
    heights = [round(value / largest * _HEIGHT * 8) for value in values]
    lines = []
    for row in reversed(range(_HEIGHT)):
        label = f"{largest * (row + 1) / _HEIGHT:9.2e}" if row % 2 else " " * 9
        lines.append(f"{label} |" + "".join(_EIGHTHS[min(8, max(0, height - 8 * row))] for height in heights))
    lines.append(" " * 10 + "+" + "-" * _WIDTH)
    lines.append(" " * 11 + f"0{f'epoch {epochs}':>{_WIDTH - 1}}")
    return lines


def _size(variable: Any) -> int:
    size = 1
    for side in variable.shape:
        size *= side
    return size


def _gibibytes(number: int) -> str:
    return f"{number / 2**30:.2f} GiB"
