"""What a run would do, settled before it begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import keras

from keras_crossvit._internal.checks import require_integer
from keras_crossvit._internal.errors import InvalidValueError, MissingFileError
from keras_crossvit._internal.files import shown_name
from keras_crossvit._internal.keras_compat import quantized_layers
from keras_crossvit._internal.model_paths import resolve_model_path
from keras_crossvit.models.builders import IMAGENET, build_with_weights, weights_of
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.variants import variant_config, variant_name
from keras_crossvit.pipeline import ImageDataset, open_dataset, steps_per_epoch
from keras_crossvit.pipeline.dataset import origin_of
from keras_crossvit.training.finetuning import copy_to_train
from keras_crossvit.training.optimization import class_weights_of
from keras_crossvit.training.recipes import RECIPES, Recipe, get_recipe


def check_compatible(recipe: Recipe, class_weights: Any, teacher: Any) -> None:
    """Raises ValueError where a recipe's loss leaves no room for class weights or a teacher."""
    if recipe.loss == "binary" and class_weights is not None:
        raise InvalidValueError(
            "class_weights do not go with loss 'binary', where a picture may be of no class; leave one out."
        )
    if recipe.loss == "binary" and teacher is not None:
        raise InvalidValueError(
            "a teacher does not go with loss 'binary': its logits are compared by softmax; leave one out."
        )


def require_trainable(model: str | CrossViT, recipe: Recipe, weights: Any) -> CrossViTConfig:
    """The configuration of what a recipe trains.

    Args:
        model: Name of a published model, or the model itself.
        recipe: The recipe.
        weights: What the model shall start from, or None.

    Raises:
        ValueError: there is no such model, or it cannot be trained as it is; the message says what would do.
    """
    if isinstance(model, CrossViT):
        if weights is not None:
            raise InvalidValueError(
                f"weights {str(weights)!r} go with the name of a published model, and this model is taken with its "
                "own; leave them out, or load them into it before by load_checkpoint()."
            )
        if model.classifier_activation is not None:
            raise InvalidValueError(
                f"the model's classifier_activation {model.classifier_activation!r} hides the logits that it learns "
                "by; build it without, or name a published model and start from this one's file by weights=..."
            )
        quantized = quantized_layers(model)
        if quantized:
            raise InvalidValueError(
                f"the model has {len(quantized)} quantized layers, such as '{quantized[0].path}', whose weights do not "
                "train; train it as it was before quantize(), and quantize what comes of it."
            )
        return model.config
    sizes = {} if recipe.img_size is None else {"img_size": recipe.img_size}
    return variant_config(model, drop_path_rate=recipe.drop_path_rate, **sizes)


def with_classes(config: CrossViTConfig, model: str | CrossViT, recipe: Recipe, source: ImageDataset) -> CrossViTConfig:
    """The configuration with the classes of the pictures.

    Raises:
        ValueError: the recipe's loss or the model does not take these classes; the message says what would.
    """
    if source.has_vectors and recipe.loss != "binary":
        raise InvalidValueError(
            f"loss {recipe.loss!r} takes one class per picture, and these may be of several; use loss='binary' (--set "
            "loss=binary), or give class numbers as labels."
        )
    num_classes = len(source.class_names)
    if num_classes < 2 and recipe.loss != "binary":
        raise InvalidValueError(
            f"all pictures are of one class, '{source.class_names[0]}', with nothing to tell it from; add a folder for "
            "each other class, or name the folder that holds those of the classes."
        )
    if isinstance(model, CrossViT) and config.num_classes != num_classes:
        raise InvalidValueError(
            f"the model has num_classes {config.num_classes} where the pictures have {num_classes} classes; build it with "
            f"num_classes={num_classes}."
        )
    return dataclasses.replace(config, num_classes=num_classes)


_LISTED = 12  # classes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides a run.

    Args:
        data: Where the pictures come from, in words.
        source: The pictures.
        recipe: The recipe with its overrides.
        model: Name of the published model, or the model itself.
        config: Its configuration.
        steps_per_epoch: Steps of `recipe.step_size` pictures.
        seed: Fixes weights, order and augmentation.
        weights: What the model starts from, or None.
        class_weights: Weight of each class in the loss, or None.
        teacher: File of the teacher, or None.
        gradient_checkpointing: Whether blocks are computed again for the gradient.
        jit_compile: Whether XLA compiles the step.
    """

    data: str
    source: ImageDataset
    recipe: Recipe
    model: str | CrossViT
    config: CrossViTConfig
    steps_per_epoch: int
    seed: int
    weights: str | None
    class_weights: tuple[float, ...] | None
    teacher: str | None
    gradient_checkpointing: bool
    jit_compile: bool

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model if isinstance(self.model, str) else self.model.name

    def build_model(self, *, anew: bool = False, report: Callable[[str], None] | None = None) -> CrossViT:
        """The model to train, its weights drawn by the seed or taken from a file.

        Args:
            anew: Whether a model that was given is copied, since variables belong to the devices for which they were
                made. Defaults to False.
            report: Takes a line for each way in which weights were made to fit. Defaults to None: silence.
        """
        keras.utils.set_random_seed(self.seed)
        if isinstance(self.model, CrossViT):
            model = copy_to_train(self.model) if anew else self.model
        else:
            keywords = {"name": self.model, "class_names": self.source.class_names, "dtype": self.recipe.precision}
            if self.weights is None:
                model = CrossViT(self.config, **keywords)
            else:
                adaptations = {"adapt_head": True, "adapt_positions": True}
                weights = weights_of(self.model, self.weights)
                model, loaded = build_with_weights(self.config, weights, adaptations, **keywords)
                for line in loaded.adaptations if report else ():
                    report(line)
        if self.gradient_checkpointing:
            model.gradient_checkpointing = True
        return model

    def settings(self) -> dict[str, Any]:
        """All that decides the outcome, as JSON values."""
        return {
            "data": self.data,
            "images": {
                "training": len(self.source.training),
                "validation": len(self.source.validation or ()),
                "sha256": self.source.fingerprint(),
            },
            "class_names": list(self.source.class_names),
            "model": self.name,
            "architecture": self.config.to_dict(),
            "recipe": self.recipe.to_dict(),
            "steps_per_epoch": self.steps_per_epoch,
            "seed": self.seed,
            "weights": self.weights,
            "class_weights": self.class_weights,
            "teacher": self.teacher,
            "gradient_checkpointing": self.gradient_checkpointing,
            "jit_compile": self.jit_compile,
        }


def plan_training(
    data: Any,
    *,
    model: str | CrossViT = "crossvit_9_dagger",
    recipe: str | Recipe = "finetune",
    weights: str | PathLike | None = None,
    validation_split: float | None = None,
    class_names: Sequence[str] | None = None,
    max_unreadable: int = 0,
    class_weights: str | Mapping[str, float] | None = None,
    teacher: str | PathLike | None = None,
    gradient_checkpointing: bool = False,
    jit_compile: bool = False,
    seed: int = 0,
    report: Any = print,
) -> Plan:
    """Settles what a run does: opens the pictures, and checks that all fits together.

    Args:
        data: What `keras_crossvit.pipeline.open_dataset` takes: a folder `train/<class>/...` and `val/<class>/...`, a
            folder `<class>/...`, shards, a pair of datasets.
        model: Name of a published model (also timm's or the authors'), built with the classes of the pictures and the
            recipe's drop-path and sizes; or a `CrossViT`, taken as it is. Defaults to "crossvit_9_dagger".
        recipe: Name of a recipe or a `Recipe`. Defaults to "finetune".
        weights: What a model given by its name starts from: "imagenet", a file, or a run's folder for its best
            model; head and position embeddings are adapted. Defaults to None: fresh weights.
        validation_split: Share of each class to hold out, where there is no folder `val`. Defaults to None.
        class_names: Names of the classes of datasets. Defaults to None.
        max_unreadable: Pictures that may be unreadable; they are left out. Defaults to 0.
        class_weights: Weight of each class in the loss by its name, or "balanced": all classes count alike, however
            many pictures each has. Defaults to None.
        teacher: A `.keras` file of a model to learn from, as `distiller_of` takes it, or a run's folder. Defaults to
            None.
        gradient_checkpointing: Whether attention and MLPs are computed again for the gradient, which takes less memory
            and more time. Defaults to False.
        jit_compile: Whether XLA compiles the step; it takes minutes on a CPU. Defaults to False.
        seed: Fixes weights, split, order and augmentation. Defaults to 0.
        report: Function that is given lines about the pictures, or None. Defaults to `print`.

    Returns:
        The plan.

    Raises:
        ValueError: something does not fit; the message says what would.
        OSError: the pictures or a file cannot be read.
    """
    if isinstance(recipe, str):
        recipe = get_recipe(recipe)
    elif not isinstance(recipe, Recipe):
        raise InvalidValueError(f"recipe {recipe!r} is no Recipe; give one, or one of {', '.join(RECIPES)}.")
    model = variant_name(model) if isinstance(model, str) else model
    config = require_trainable(model, recipe, weights)  # a wrong name is answered before the pictures are looked at
    weights = weights if weights == IMAGENET else _absolute_path(weights)
    teacher = _absolute_path(teacher)
    check_compatible(recipe, class_weights, teacher)
    source = open_dataset(
        data,
        validation_split=validation_split,
        class_names=class_names,
        seed=require_integer("seed", seed, minimum=0),
        max_unreadable=max_unreadable,
        report=report,
    )
    if report:
        report(f"{len(source.class_names)} classes: {listed_classes(source.class_names)}")
    config = with_classes(config, model, recipe, source)
    return Plan(
        data=origin_of(data),
        source=source,
        recipe=recipe,
        model=model,
        config=config,
        steps_per_epoch=steps_per_epoch(source, recipe.step_size),
        seed=seed,
        weights=weights,
        class_weights=class_weights_of(class_weights, source),
        teacher=teacher,
        gradient_checkpointing=gradient_checkpointing,
        jit_compile=jit_compile,
    )


def listed_classes(names: Sequence[str]) -> str:
    """The names of classes for one line: all of a few, and else the first and how many more there are."""
    shown = ", ".join(shown_name(name) for name in names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED:,} more"


def _absolute_path(path: str | PathLike | None) -> str | None:
    """The whole path of a model's file, if one is given; a run's folder stands for its best model."""
    if path is None:
        return None
    if not (file := resolve_model_path(path)).is_file():
        raise MissingFileError(f"there is no file '{path}'.")
    return str(file.resolve())
