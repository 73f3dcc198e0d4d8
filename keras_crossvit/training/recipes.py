"""Recipes by name. Each opens with its source and with what is to be expected of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from keras_crossvit._internal.checks import (
    require_integer,
    require_known,
    require_number,
    require_positive,
    require_rate,
)
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.models.config import require_known_keywords
from keras_crossvit.pipeline import Augmentation

OPTIMIZERS = ("adamw", "lion", "sgd")
LOSSES = ("softmax", "binary")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training run.

    Args:
        source: Where the numbers come from.
        expected: What the source, or a run of one's own, reached with them.
        epochs: Rounds through the pictures.
        batch_size: Pictures per update of the weights.
        accumulation_steps: Parts into which a batch is cut to fit into memory; their gradients are averaged. Defaults
            to 1.
        optimizer: "adamw", "lion" or "sgd" (with Nesterov momentum 0.9). Defaults to "adamw".
        learning_rate: Peak, after the warm-up, at a batch of `reference_batch_size` pictures.
        reference_batch_size: The peak grows linearly with the batch from here. Defaults to None: it does not grow.
        warmup_learning_rate: Learning rate at the first step. Defaults to 1e-6.
        warmup_fraction: Share of all steps in which the learning rate rises linearly to its peak. Defaults to 0.1.
        final_learning_rate: Where a cosine leads after that. Defaults to 1e-5.
        weight_decay: Decoupled, times the learning rate, and with "sgd" passed on by the momentum, as PyTorch's is;
            none on biases, norms, class tokens and position embeddings.
        clip_norm: Largest norm of all gradients together. Defaults to None: no clipping. Keras clips each optimizer's
            own gradients, so it does not go with `layer_decay`, which has several.
        layer_decay: Factor on the learning rate from one stage to the one before. Defaults to None: all alike.
        ema_momentum: Share of the old value in a running mean of the weights, which is evaluated and saved in their
            place; less in short runs, see `ema_momentum_over`. Defaults to None: no mean.
        loss: "softmax", one class per picture, or "binary", each class by itself, as for several labels per picture.
            Defaults to "softmax".
        drop_path_rate: Stochastic depth of the last block. Defaults to 0.
        img_size: Sides of the two images. Defaults to None: the model's own.
        precision: Keras' dtype policy of the layers. Defaults to "float32".
        patience: Epochs without a better validation result after which training stops. Defaults to None: never.
        augmentation: What happens to the pictures and targets.

    Raises:
        ValueError: a value is out of range; the message says what would do.
    """

    source: str
    expected: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    augmentation: Augmentation
    accumulation_steps: int = 1
    optimizer: str = "adamw"
    reference_batch_size: int | None = None
    warmup_learning_rate: float = 1e-6
    warmup_fraction: float = 0.1
    final_learning_rate: float = 1e-5
    clip_norm: float | None = None
    layer_decay: float | None = None
    ema_momentum: float | None = None
    loss: str = "softmax"
    drop_path_rate: float = 0.0
    img_size: tuple[int, int] | None = None
    precision: str = "float32"
    patience: int | None = None

    def __post_init__(self) -> None:
        for field in ("epochs", "batch_size", "accumulation_steps"):
            require_integer(field, getattr(self, field), minimum=1)
        for field in ("reference_batch_size", "patience"):
            if getattr(self, field) is not None:
                require_integer(field, getattr(self, field), minimum=1)
        require_positive("learning_rate", self.learning_rate)
        for field in ("warmup_learning_rate", "final_learning_rate", "weight_decay"):
            if require_number(field, getattr(self, field)) < 0:
                raise InvalidValueError(f"{field} {getattr(self, field):g} is negative; use 0 or a number above.")
        for field in ("warmup_fraction", "drop_path_rate"):
            require_rate(field, getattr(self, field))
        for field in ("clip_norm", "layer_decay"):
            if getattr(self, field) is not None:
                require_positive(field, getattr(self, field))
        if self.ema_momentum is not None:
            require_rate("ema_momentum", self.ema_momentum)
        for field, choices in (("optimizer", OPTIMIZERS), ("loss", LOSSES), ("precision", PRECISIONS)):
            if getattr(self, field) not in choices:
                raise InvalidValueError(
                    f"{field} {getattr(self, field)!r} is unknown; use one of {', '.join(choices)}."
                )
        if self.clip_norm is not None and self.layer_decay is not None:
            raise InvalidValueError(
                f"clip_norm {self.clip_norm:g} would be applied to each stage by itself under layer_decay "
                f"{self.layer_decay:g}; leave one of the two out."
            )
        if self.batch_size % self.accumulation_steps:
            raise InvalidValueError(
                f"batch_size {self.batch_size} cannot be cut into accumulation_steps {self.accumulation_steps} equal "
                "parts; use a divisor."
            )

    @property
    def classifier_activation(self) -> str | None:
        """What saved models make of their logits: "sigmoid" where each class stands for itself, else None."""
        return "sigmoid" if self.loss == "binary" else None

    @property
    def step_size(self) -> int:
        """Pictures that go through the model at once."""
        return self.batch_size // self.accumulation_steps

    @property
    def peak_learning_rate(self) -> float:
        """Learning rate after the warm-up, scaled to the batch."""
        return self.learning_rate * self.batch_size / (self.reference_batch_size or self.batch_size)

    def schedule(self, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
        """Learning rate by step, for epochs of this many steps.

        It follows the steps, where the authors' follows whole epochs, and the cosine begins at the end of the warm-up,
        where theirs, timm's, is by then a tenth under way and drops by 2 % at once.
        """
        steps = self.epochs * steps_per_epoch
        warmup_steps = round(self.warmup_fraction * steps)
        peak = self.peak_learning_rate
        if warmup_steps == 0:
            return keras.optimizers.schedules.CosineDecay(peak, steps, alpha=self.final_learning_rate / peak)
        return keras.optimizers.schedules.CosineDecay(
            self.warmup_learning_rate,
            max(1, steps - warmup_steps),
            alpha=self.final_learning_rate / peak,
            warmup_target=peak,
            warmup_steps=warmup_steps,
        )

    def ema_momentum_over(self, steps_per_epoch: int) -> float | None:
        """`ema_momentum`, or what forgets the weights of the beginning where a run of such epochs has few updates.

        A mean of momentum m reaches back some 1 / (1 - m) updates, here at most over a tenth of the run and one more.
        At a momentum of 0.99, a run of 40 updates would end with 67 % of the weights that it began with; so it ends
        with 0.01 % of them.
        """
        if self.ema_momentum is None:
            return None
        updates = self.epochs * steps_per_epoch / self.accumulation_steps
        return min(self.ema_momentum, updates / (updates + 10))

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return dataclasses.asdict(self)


IMAGENET = Recipe(
    source="Chen, Fan and Panda, ICCV 2021, section 4.1 and table 9, and the authors' code where the paper is silent. "
    "The code repeats augmentation for all models; the paper did so for crossvit_18 alone (repeats=1 for the others)",
    expected="ImageNet-1k top-1 of the paper's table 2: 77.1 for crossvit_9_dagger, 82.3 for crossvit_15_dagger, 82.8 "
    "for crossvit_18_dagger; this project has not run it",
    epochs=300,
    batch_size=4096,
    learning_rate=5e-4,
    reference_batch_size=512,
    warmup_learning_rate=1e-6,
    warmup_fraction=30 / 300,
    final_learning_rate=1e-5,
    weight_decay=0.05,
    drop_path_rate=0.1,
    precision="mixed_float16",
    augmentation=Augmentation(),  # the paper's is its default
)

IMAGENET_408 = dataclasses.replace(
    IMAGENET,
    source="Chen, Fan and Panda, ICCV 2021, section 4.1: 30 epochs at 408 and 384 pixels from the weights at 240 and "
    "224. The paper gives no other number; batch, learning rate, weight decay and warm-up are those with which DeiT is "
    "fine-tuned at 384 pixels, by the command in its README and its code's defaults",
    expected="ImageNet-1k top-1 of the paper's table 4: 83.5 for crossvit_15_dagger_408, 83.9 for "
    "crossvit_18_dagger_408; this project has not run it",
    epochs=30,
    batch_size=512,
    learning_rate=5e-6,
    warmup_fraction=5 / 30,
    final_learning_rate=5e-6,
    weight_decay=1e-8,
    img_size=(408, 384),
)

TRANSFER = Recipe(
    source="Chen, Fan and Panda, ICCV 2021, section 4.2 and table 9: ImageNet's augmentation but for erasing, no "
    "drop-path; momentum and last learning rate are the authors' code's defaults. Repeats as for imagenet",
    expected="the paper's table 5, from ImageNet weights: CIFAR-10 99.00 and 99.11, CIFAR-100 90.77 and 91.36, Pet "
    "94.55 and 95.07 for crossvit_15 and crossvit_18; this project has not run it",
    epochs=1000,
    batch_size=768,
    optimizer="sgd",
    learning_rate=0.01,
    warmup_fraction=5 / 1000,
    weight_decay=1e-4,
    precision="mixed_float16",
    augmentation=Augmentation(erasing=0.0),
)

FINETUNE = Recipe(
    source="this project, for hundreds to thousands of pictures and pretrained weights: AdamW with BEiT's layer-wise "
    "decay at the rate of MAE's fine-tuning, a running mean of the weights, mild augmentation",
    expected="depends on the pictures; begin here, with weights",
    epochs=20,
    batch_size=64,
    learning_rate=5e-4,
    weight_decay=0.05,
    layer_decay=0.75,
    drop_path_rate=0.1,
    ema_momentum=0.99,
    augmentation=Augmentation(
        crop_scale=(0.35, 1.0), rand_augment_magnitude=6.0, erasing=0.0, mixup=0.0, cutmix=0.0, repeats=1
    ),
)

QUICKSTART = Recipe(
    source="this project: quickstart, which moves, turns and scales its digits by Keras' layers in place of this "
    "augmentation. Lion takes half of AdamW's operations per variable, which counts where pictures are small: a step "
    "is traced sooner, and the optimizer's share of it is less",
    expected="some 98 % of the held-out ones of 1,797 handwritten digits after a few minutes on two CPU cores",
    epochs=11,
    batch_size=128,
    optimizer="lion",
    learning_rate=2e-4,
    warmup_learning_rate=0.0,
    final_learning_rate=0.0,
    weight_decay=0.25,
    drop_path_rate=0.1,
    img_size=(48, 32),
    augmentation=dataclasses.replace(Augmentation.none(), crop_scale=(0.7, 1.0), crop_ratio=(0.9, 1.1)),
)

RECIPES = {
    "finetune": FINETUNE,
    "imagenet": IMAGENET,
    "imagenet_408": IMAGENET_408,
    "transfer": TRANSFER,
    "quickstart": QUICKSTART,
}


def get_recipe(name: str, **overrides: Any) -> Recipe:
    """A recipe by name, with some of its fields changed.

    Args:
        name: One of `RECIPES`.
        **overrides: Fields of `Recipe`, and of its `Augmentation`.

    Returns:
        The recipe.

    Raises:
        TypeError: a field is unknown; the message names the nearest.
        ValueError: there is no such recipe, or a value is out of range.
    """
    require_known("recipe", name, RECIPES)
    of_recipe = {field.name for field in dataclasses.fields(Recipe)}
    of_augmentation = {field.name for field in dataclasses.fields(Augmentation)}
    require_known_keywords(overrides, [*of_recipe, *of_augmentation], "get_recipe()")
    recipe = RECIPES[name]
    augmentation = dataclasses.replace(
        overrides.pop("augmentation", recipe.augmentation),
        **{field: overrides.pop(field) for field in list(overrides) if field in of_augmentation},
    )
    return dataclasses.replace(recipe, augmentation=augmentation, **overrides)
