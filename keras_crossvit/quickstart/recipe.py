"""How quickstart trains: on 1,437 digits for a few minutes, until some 98 % of the held-out ones come out right."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras

from keras_crossvit.finetuning import no_weight_decay_variables


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of a training run.

    Args:
        img_size: Sides of the two images; the digits have 8 x 8 pixels, so small ones lose nothing.
        epochs: Rounds through the pictures.
        batch_size: Pictures per step.
        learning_rate: Peak, after the warm-up.
        warmup_share: Share of the steps in which the learning rate rises from 0; a cosine leads back to 0.
        weight_decay: Of Lion; none on biases, norms, class tokens and position embeddings.
        drop_path_rate: Stochastic depth of the last block.
    """

    img_size: tuple[int, int] = (48, 32)
    epochs: int = 11
    batch_size: int = 128
    learning_rate: float = 2e-4
    warmup_share: float = 0.1
    weight_decay: float = 0.25
    drop_path_rate: float = 0.1


def make_optimizer(model: Any, recipe: Recipe, pictures: int) -> keras.optimizers.Optimizer:
    """Lion with warm-up and cosine for a run over this many pictures.

    Lion takes half of AdamW's operations per variable, which counts where the pictures are as small as here: a step is
    traced sooner, and the optimizer's share of it is less.
    """
    steps = recipe.epochs * math.ceil(pictures / recipe.batch_size)
    warmup_steps = round(recipe.warmup_share * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=steps - warmup_steps,
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup_steps,
    )
    optimizer = keras.optimizers.Lion(schedule, weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(no_weight_decay_variables(model))
    return optimizer


def compile_for_first_steps(model: Any, optimizer: keras.optimizers.Optimizer) -> None:
    """Compiles the model so that the first step starts soon.

    A short run never earns back what XLA's compilation costs. And variables that come up while TensorFlow traces a
    step make it trace all of it twice, so the optimizer's and the metrics' are made before.
    """
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    optimizer.build(model.trainable_variables)
    model.compute_metrics(None, keras.ops.zeros((1,)), keras.ops.zeros((1, *model.output_shape[1:])))
    model.reset_metrics()
