"""Training recipes by name: the numbers of a run as data."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_crossvit._internal.checks import (
    require_at_most,
    require_integer,
    require_known,
    require_number,
    require_positive,
    require_rate,
    shown_value,
)
from keras_crossvit._internal.errors import InvalidTypeError, InvalidValueError, MissingFileError
from keras_crossvit._internal.keywords import KnownFieldsOnly, known_keywords_only, require_known_keywords
from keras_crossvit._internal.model_paths import RUN_SETTINGS, read_run_settings
from keras_crossvit.pipeline import Augmentation

# Far above what anybody trains with: a larger value is a slip, which would end in an overflow or without memory.
_LARGEST = {
    **dict.fromkeys(("epochs", "batch_size", "reference_batch_size", "patience"), 1_000_000),
    **dict.fromkeys(("learning_rate", "warmup_learning_rate", "final_learning_rate", "weight_decay"), 1000.0),
}
_MAX_RECIPE_BYTES = 2**20
_NONE = "none"  # stands for None in TOML, which has no null
PUBLISHED, CHECKPOINT, RANDOM = "imagenet", "checkpoint", "random"  # what a recipe starts from
_CHOICES = {
    "starts_from": (PUBLISHED, CHECKPOINT, RANDOM),
    "optimizer": ("adamw", "lion", "sgd"),
    "loss": ("softmax", "binary"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(KnownFieldsOnly):
    """Settings of a training run; `recipe_toml` writes them as a file that `get_recipe` reads.

    Args:
        source: Where the numbers come from.
        expected: The result that the source, or this project, reached with them.
        starts_from: The weights that the numbers are meant for: "imagenet", the published ones, which are then the
            default; "checkpoint", those of another training, which have to be given; or "random". Defaults to "random".
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
        probe: Whether to fit only the heads, by L-BFGS on features that are computed once and without augmentation.
            `epochs` is then the largest number of iterations, `weight_decay` the L2 penalty of the heads' kernels,
            `batch_size` that of the features; `learning_rate` is not used. Defaults to False.

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
    starts_from: str = RANDOM
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
    probe: bool = False

    def __post_init__(self) -> None:
        for field in ("source", "expected"):
            if not isinstance(getattr(self, field), str):
                raise InvalidTypeError(f"{field} {getattr(self, field)!r:.80} is not a text; write a sentence.")
        given = {field: value for field, value in vars(self).items() if value is not None}
        for each in dataclasses.fields(self):
            if each.name not in given and "None" not in str(each.type):
                raise InvalidValueError(f"{each.name} cannot be {_NONE}; use a value, or leave it out.")
        if not isinstance(self.probe, bool):
            raise InvalidValueError(f"probe {shown_value(self.probe)} is not a boolean; use true or false.")
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
        for field, maximum in _LARGEST.items():
            require_at_most(maximum, **{field: getattr(self, field)})
        if not isinstance(self.augmentation, Augmentation):
            raise InvalidTypeError(
                f"augmentation {shown_value(self.augmentation)} is not an Augmentation; use Augmentation.none() for "
                "none, or set its fields, such as rand_augment_ops."
            )
        for field, choices in _CHOICES.items():
            if given[field] not in choices:
                raise InvalidValueError(
                    f"{field} {shown_value(given[field])} is unknown; use one of {', '.join(choices)}."
                )
        if self.probe:
            self._require_probe()
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

    def _require_probe(self) -> None:
        unused = {"gradient_accumulation_steps": 1, "layer_decay": None, "ema_momentum": None, "global_clipnorm": None}
        for field, value in {**unused, "drop_path_rate": 0.0}.items():
            if getattr(self, field) != value:
                raise InvalidValueError(
                    f"{field} {getattr(self, field)!r} cannot be combined with probe, which fits only the heads; leave "
                    f"it at {value!r}."
                )
        if self.augmentation != Augmentation.none():
            raise InvalidValueError(
                "augmentation cannot be combined with probe, which computes the features of an image once; use "
                "Augmentation.none()."
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
    starts_from=PUBLISHED,
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

SCRATCH = dataclasses.replace(
    FINETUNE,
    source="this project, for random initialization and hundreds to thousands of images: finetune with more epochs",
    expected="depends on the data. crossvit_9_dagger on 680 photographs of 17 classes, sizes 48 and 32, one seed: "
    "top-1 65.9 % after 20 epochs, 59.7 % without layer-wise decay; without it and with a learning rate of 3e-4 56.5 % "
    "after 20 epochs and 62.4 % after 50",
    starts_from=RANDOM,
    epochs=50,
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
    starts_from=CHECKPOINT,
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
    starts_from=PUBLISHED,
    epochs=1000,
    batch_size=768,
    optimizer="sgd",
    learning_rate=0.01,
    warmup_fraction=5 / 1000,
    weight_decay=1e-4,
    precision="mixed_float16",
    augmentation=Augmentation(erasing=0.0),
)

PROBE = Recipe(
    source="this project: logistic regression on the features of pretrained weights, by L-BFGS, as in linear probes of "
    "self-supervised models",
    expected="depends on the data; a baseline for fine-tuning after one pass over the images",
    starts_from=PUBLISHED,
    epochs=200,
    batch_size=32,
    learning_rate=1.0,
    weight_decay=1e-3,
    augmentation=Augmentation.none(),
    probe=True,
)

QUICKSTART = Recipe(
    source="this project, for scikit-learn's handwritten digits",
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
    "scratch": SCRATCH,
    "imagenet": IMAGENET,
    "imagenet_408": IMAGENET_408,
    "transfer": TRANSFER,
    "probe": PROBE,
    "quickstart": QUICKSTART,
}


def get_recipe(name: str | PathLike[str], **overrides: Any) -> Recipe:
    """Returns a recipe by name, of a file or of a run, with some of its fields changed.

    Args:
        name: One of `RECIPES`, a `.toml` file as `recipe_toml` writes it, or the folder of a run. A file has the fields
            of `Recipe`, those of `Augmentation` in a table `[augmentation]`, and maybe `base`, the name of the recipe
            that has all other fields. "none" in a field stands for None.
        **overrides: Fields of `Recipe` and of its `Augmentation`.

    Raises:
        InvalidTypeError: a field is unknown; the message names the nearest one.
        InvalidValueError: there is no such recipe, the file is not a recipe, or a value is out of range.
        MissingFileError: there is no such file.
    """
    path = Path(name)
    if path.suffix == ".toml":
        recipe = _recipe_of_file(path)
    elif (path / RUN_SETTINGS).is_file():
        recipe = _recipe_of(read_run_settings(path).get("recipe"), f"'{path / RUN_SETTINGS}'")
    else:
        require_known("recipe", str(name), RECIPES)
        recipe = RECIPES[str(name)]
    return _changed(recipe, overrides, "get_recipe()")


@known_keywords_only
def recipe_toml(recipe: Recipe) -> str:
    """Returns a recipe as the TOML that `get_recipe` reads, with "none" for None."""
    fields = dataclasses.asdict(recipe)
    augmentation = fields.pop("augmentation")
    return "\n".join(
        [*map(_toml_line, fields.items()), "", "[augmentation]", *map(_toml_line, augmentation.items()), ""]
    )


def _toml_line(field: tuple[str, Any]) -> str:
    name, value = field
    text = json.dumps(
        _NONE if value is None else value, ensure_ascii=False
    )  # also a value of TOML, but for one character
    return f"{name} = {text}".replace("\x7f", "\\u007f")


def _recipe_of_file(path: Path) -> Recipe:
    if not path.is_file():
        raise MissingFileError(f"There is no file '{path}'; write one with --print-recipe.")
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_RECIPE_BYTES + 1)
        if len(content) > _MAX_RECIPE_BYTES:
            raise ValueError(f"more than {_MAX_RECIPE_BYTES:,} bytes")
        stored = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # also of bytes that are not UTF-8
        raise InvalidValueError(
            f"'{path}' is not a recipe in TOML ({error}); compare it with the output of --print-recipe."
        ) from error
    return _recipe_of(stored, f"'{path}'")


def _recipe_of(stored: Any, where: str) -> Recipe:
    """Returns the recipe of a file's fields."""
    if not isinstance(stored, dict) or not isinstance(augmentation := stored.get("augmentation", {}), dict):
        raise InvalidValueError(f"{where} has no recipe; write one with --print-recipe.")
    fields, augmentation = (
        {name: _value(value) for name, value in each.items() if name != "augmentation"}
        for each in (stored, augmentation)
    )
    base = fields.pop("base", None)
    if base is not None:
        require_known("recipe", str(base), RECIPES)
        return _changed(RECIPES[base], {**fields, **augmentation}, where)
    required = [field.name for field in dataclasses.fields(Recipe) if field.default is dataclasses.MISSING]
    if missing := [name for name in required if name not in stored]:
        raise InvalidValueError(f'{where} has no {", ".join(missing)}; add them, or base = "finetune".')
    return Recipe(**fields, augmentation=Augmentation(**augmentation))


def _value(stored: Any) -> Any:
    """Returns the value of a field in a file, which has lists for tuples and "none" for None."""
    if isinstance(stored, list):
        return tuple(map(_value, stored))
    return None if stored == _NONE else stored


def _changed(recipe: Recipe, overrides: Mapping[str, Any], caller: str) -> Recipe:
    recipe_fields, augmentation_fields = (
        {field.name for field in dataclasses.fields(kind)} for kind in (Recipe, Augmentation)
    )
    require_known_keywords(overrides, [*recipe_fields, *augmentation_fields], caller)
    augmentation = {field: value for field, value in overrides.items() if field in augmentation_fields}
    changes = {field: value for field, value in overrides.items() if field not in augmentation_fields}
    recipe = dataclasses.replace(recipe, **changes)
    return dataclasses.replace(recipe, augmentation=dataclasses.replace(recipe.augmentation, **augmentation))
