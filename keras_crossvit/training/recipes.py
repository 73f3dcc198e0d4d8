"""Training recipes by name: the numbers of a run as data."""

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
from keras_crossvit.models.arguments import require_known_keywords
from keras_crossvit.pipeline import Augmentation

_CHOICES = {
    "optimizer": ("adamw", "lion", "sgd"),
    "loss": ("softmax", "binary"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training run.

    Args:
        source: Where the numbers come from.
        expected: The result that the source, or this project, reached with them.
        epochs: Number of epochs.
        batch_size: Images per update of the weights.
        gradient_accumulation_steps: Micro-batches per update, whose gradients are averaged. Defaults to 1.
        optimizer: "adamw", "lion" or "sgd" (Nesterov momentum 0.9). Defaults to "adamw".
        learning_rate: Peak learning rate, reached after the warmup, for a batch of `reference_batch_size` images.
        reference_batch_size: The peak is `learning_rate * batch_size / reference_batch_size`. Defaults to None: the
            peak is `learning_rate` at any batch size.
        warmup_learning_rate: Learning rate of the first step. Defaults to 1e-6.
        warmup_fraction: Fraction of all steps in which the learning rate rises linearly to its peak. Defaults to 0.1.
        final_learning_rate: Where the cosine decay after the warmup ends. Defaults to 1e-5.
        weight_decay: Decoupled weight decay, multiplied by the learning rate; with "sgd" it goes through the momentum,
            as in PyTorch. Biases, norms, class tokens and position embeddings do not decay.
        global_clipnorm: Largest norm of all gradients together. Defaults to None: no clipping. Cannot be combined with
            `layer_decay`, which uses one optimizer per stage: Keras would clip each of them separately.
        layer_decay: Factor on the learning rate from one stage to the one before it. Defaults to None: the same
            learning rate everywhere.
        ema_momentum: Momentum of the EMA of the weights, which is evaluated and saved instead of the weights; see
            `effective_ema_momentum` for short runs. Defaults to None: no EMA.
        loss: "softmax" (one class per image) or "binary" (any number of classes per image). Defaults to "softmax".
        drop_path_rate: Stochastic depth rate of the last block. Defaults to 0.
        img_size: Sizes of the small-patch and the large-patch image. Defaults to None: the model's own.
        precision: Keras dtype policy: "float32", "mixed_bfloat16" or "mixed_float16". Defaults to "float32".
        patience: Epochs without a better validation result after which training stops. Defaults to None: never.
        augmentation: Augmentation of images and targets.

    Raises:
        InvalidValueError: a value is out of range, or two values cannot be combined.
    """

    source: str
    expected: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    augmentation: Augmentation
    gradient_accumulation_steps: int = 1
    optimizer: str = "adamw"
    reference_batch_size: int | None = None
    warmup_learning_rate: float = 1e-6
    warmup_fraction: float = 0.1
    final_learning_rate: float = 1e-5
    global_clipnorm: float | None = None
    layer_decay: float | None = None
    ema_momentum: float | None = None
    loss: str = "softmax"
    drop_path_rate: float = 0.0
    img_size: tuple[int, int] | None = None
    precision: str = "float32"
    patience: int | None = None

    def __post_init__(self) -> None:
        given = {field: value for field, value in vars(self).items() if value is not None}
        for field in ("epochs", "batch_size", "gradient_accumulation_steps", "reference_batch_size", "patience"):
            if field in given:
                require_integer(field, given[field], minimum=1)
        for field in ("learning_rate", "global_clipnorm", "layer_decay"):
            if field in given:
                require_positive(field, given[field])
        for field in ("warmup_fraction", "drop_path_rate", "ema_momentum"):
            if field in given:
                require_rate(field, given[field])
        for field in ("warmup_learning_rate", "final_learning_rate", "weight_decay"):
            if require_number(field, given[field]) < 0:
                raise InvalidValueError(f"{field} {given[field]:g} is negative; use 0 or more.")
        for field, choices in _CHOICES.items():
            if given[field] not in choices:
                raise InvalidValueError(f"{field} {given[field]!r} is unknown; use one of {', '.join(choices)}.")
        if self.global_clipnorm is not None and self.layer_decay is not None:
            raise InvalidValueError(
                f"global_clipnorm {self.global_clipnorm:g} cannot be combined with layer_decay {self.layer_decay:g}, "
                "which would clip each stage separately; set one of them to None."
            )
        if self.batch_size % self.gradient_accumulation_steps:
            raise InvalidValueError(
                f"batch_size {self.batch_size} is not divisible by gradient_accumulation_steps "
                f"{self.gradient_accumulation_steps}; use a divisor."
            )

    @property
    def classifier_activation(self) -> str | None:
        """Activation of the saved models: "sigmoid" for loss "binary", else None (logits)."""
        return "sigmoid" if self.loss == "binary" else None

    @property
    def micro_batch_size(self) -> int:
        """Images per training step, all devices together."""
        return self.batch_size // self.gradient_accumulation_steps

    @property
    def peak_learning_rate(self) -> float:
        """Learning rate after the warmup, scaled to the batch size."""
        return self.learning_rate * self.batch_size / (self.reference_batch_size or self.batch_size)

    def schedule(self, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
        """Returns the learning rate schedule: a linear warmup, then a cosine decay, both by steps.

        The authors' schedule (timm's) moves by whole epochs. Its cosine also counts the epochs of the warmup, so it
        drops by 2 % when the warmup ends; this one starts at the peak.
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

    def effective_ema_momentum(self, steps_per_epoch: int) -> float | None:
        """Returns `ema_momentum`, or less in a run of few updates.

        An EMA of momentum m averages about the last 1 / (1 - m) updates. Here that is at most a tenth of the run plus
        one update. Otherwise, after 40 updates at 0.99, 67 % of the EMA would still be the initial weights; this way
        it is 0.01 %.
        """
        if self.ema_momentum is None:
            return None
        updates = self.epochs * steps_per_epoch / self.gradient_accumulation_steps
        return min(self.ema_momentum, updates / (updates + 10))


FINETUNE = Recipe(
    source="this project, for pretrained weights and hundreds to thousands of images: AdamW with BEiT's layer-wise "
    "decay, the learning rate of MAE's fine-tuning, an EMA of the weights and mild augmentation",
    expected="depends on the data; start here if you have pretrained weights",
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

IMAGENET = Recipe(
    source="Chen, Fan and Panda, ICCV 2021, section 4.1 and table 9, and the authors' code where the paper is silent. "
    "The code uses repeated augmentation for all models, the paper only for crossvit_18 (repeats=1 for the others)",
    expected="ImageNet-1k top-1 from the paper's table 2: 77.1 for crossvit_9_dagger, 82.3 for crossvit_15_dagger, "
    "82.8 for crossvit_18_dagger; not run by this project",
    epochs=300,
    batch_size=4096,
    learning_rate=5e-4,
    reference_batch_size=512,
    warmup_fraction=30 / 300,
    weight_decay=0.05,
    drop_path_rate=0.1,
    precision="mixed_float16",
    augmentation=Augmentation(),  # its defaults are the paper's
)

IMAGENET_408 = dataclasses.replace(
    IMAGENET,
    source="Chen, Fan and Panda, ICCV 2021, section 4.1: 30 epochs at 408 and 384 pixels from the weights at 240 and "
    "224. The paper gives no other number; batch size, learning rate, weight decay and warmup are those of DeiT's "
    "fine-tuning at 384 pixels (the command in its README and the defaults of its code)",
    expected="ImageNet-1k top-1 from the paper's table 4: 83.5 for crossvit_15_dagger_408, 83.9 for "
    "crossvit_18_dagger_408; not run by this project",
    epochs=30,
    batch_size=512,
    learning_rate=5e-6,
    warmup_fraction=5 / 30,
    final_learning_rate=5e-6,
    weight_decay=1e-8,
    img_size=(408, 384),
)

TRANSFER = Recipe(
    source="Chen, Fan and Panda, ICCV 2021, section 4.2 and table 9: ImageNet's augmentation without erasing, no drop "
    "path. Momentum and final learning rate are the defaults of the authors' code. Repeats as for imagenet",
    expected="the paper's table 5, from ImageNet weights: CIFAR-10 99.00 and 99.11, CIFAR-100 90.77 and 91.36, Pet "
    "94.55 and 95.07 for crossvit_15 and crossvit_18; not run by this project",
    epochs=1000,
    batch_size=768,
    optimizer="sgd",
    learning_rate=0.01,
    warmup_fraction=5 / 1000,
    weight_decay=1e-4,
    precision="mixed_float16",
    augmentation=Augmentation(erasing=0.0),
)

QUICKSTART = Recipe(
    source="this project, for scikit-learn's handwritten digits. Lion needs half of AdamW's operations per variable, "
    "which shows where images are this small",
    expected="some 98 % of 360 validation digits after two to three minutes on two CPU cores",
    epochs=11,
    batch_size=128,
    optimizer="lion",
    learning_rate=2e-4,
    warmup_learning_rate=0.0,
    final_learning_rate=0.0,
    weight_decay=0.25,
    drop_path_rate=0.1,
    img_size=(48, 32),
    augmentation=dataclasses.replace(Augmentation.none(), crop_scale=(0.65, 0.95), crop_ratio=(0.9, 1.1)),
)

RECIPES = {
    "finetune": FINETUNE,
    "imagenet": IMAGENET,
    "imagenet_408": IMAGENET_408,
    "transfer": TRANSFER,
    "quickstart": QUICKSTART,
}


def get_recipe(name: str, **overrides: Any) -> Recipe:
    """Returns a recipe by name, with some of its fields changed.

    Args:
        name: One of `RECIPES`.
        **overrides: Fields of `Recipe` and of its `Augmentation`.

    Raises:
        InvalidTypeError: a field is unknown; the message names the nearest one.
        InvalidValueError: there is no such recipe, or a value is out of range.
    """
    require_known("recipe", name, RECIPES)
    recipe_fields, augmentation_fields = (
        {field.name for field in dataclasses.fields(kind)} for kind in (Recipe, Augmentation)
    )
    require_known_keywords(overrides, [*recipe_fields, *augmentation_fields], "get_recipe()")
    recipe = RECIPES[name]
    augmentation = dataclasses.replace(
        overrides.pop("augmentation", recipe.augmentation),
        **{field: overrides.pop(field) for field in list(overrides) if field in augmentation_fields},
    )
    return dataclasses.replace(recipe, augmentation=augmentation, **overrides)
