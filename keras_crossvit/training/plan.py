"""Plans a training run: checks everything that decides it before the first step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import keras

from keras_crossvit._internal.checks import require_integer
from keras_crossvit._internal.errors import DownloadError, InvalidValueError, MissingFileError, listed
from keras_crossvit._internal.keras_compat import quantized_layers
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.model_paths import resolve_model_path
from keras_crossvit._internal.user_text import shown_name
from keras_crossvit.models.builders import IMAGENET, build_with_weights, weights_of
from keras_crossvit.models.config import CrossViTConfig, config_of
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.variants import variant_config, variant_name
from keras_crossvit.pipeline import ImageDataset, open_dataset, steps_per_epoch
from keras_crossvit.pipeline.dataset import origin_of
from keras_crossvit.pipeline.splits import DatasetSplit
from keras_crossvit.pipeline.tensorflow_datasets import own_class_names
from keras_crossvit.training.finetuning import copy_to_train
from keras_crossvit.training.optimization import resolve_class_weights
from keras_crossvit.training.recipes import CHECKPOINT, PUBLISHED, RANDOM, RECIPES, Recipe, get_recipe

NO_WEIGHTS = "none"
_LISTED_CLASSES = 12


@known_keywords_only
def plan_training(
    data: Any,
    *,
    model: str | CrossViT = "crossvit_9_dagger",
    recipe: str | PathLike | Recipe = "finetune",
    weights: str | PathLike | None = None,
    validation_split: float | None = None,
    class_names: Sequence[str] | None = None,
    max_unreadable: int = 0,
    follow_links: bool = False,
    class_weights: str | Mapping[str, float] | None = None,
    teacher: str | PathLike | None = None,
    gradient_checkpointing: bool = False,
    jit_compile: bool = False,
    seed: int = 0,
) -> Plan:
    """Opens the images and checks that data, model and recipe fit together; arguments as in `kc.train`.

    A model given by name is built for the classes of the data and the recipe's image size and drop path; head and
    position embeddings of its weights are adapted. A `CrossViT` is trained as it is.

    Returns:
        The plan.

    Raises:
        InvalidTypeError: the model is neither a name nor a `CrossViT`.
        InvalidValueError: two of these do not fit together; the message says what would.
        OSError: images or a file cannot be read.
    """
    if isinstance(recipe, (str, PathLike)):
        recipe = get_recipe(recipe)
    elif not isinstance(recipe, Recipe):
        raise InvalidValueError(f"recipe {recipe!r} is not a Recipe; pass one, or one of {', '.join(RECIPES)}.")
    model = variant_name(model) if isinstance(model, str) else model
    config = _config_to_train(model, recipe, weights)  # what is wrong fails before the images are read
    teacher = _model_file(teacher)
    check_compatible(recipe, class_weights, teacher)
    weights = _weights_to_start_from(model, recipe, weights)
    if class_names is None and isinstance(model, CrossViT) and not isinstance(data, (str, PathLike)):
        class_names = own_class_names(data) or model.class_names
    dataset = open_dataset(
        data,
        validation_split=validation_split,
        class_names=class_names,
        seed=require_integer("seed", seed, minimum=0),
        max_unreadable=max_unreadable,
        follow_links=follow_links,
    )
    logger.info("%d classes: %s", len(dataset.class_names), list_classes(dataset.class_names))
    if isinstance(dataset.training, DatasetSplit) and not dataset.training.is_repeatable():
        logger.warning(
            "The training dataset has another order each time it is read, so the run can be resumed, but not "
            "bit-identically. For that, pass the folder of the images, or a dataset that is not shuffled."
        )
    return Plan(
        data=origin_of(data),
        dataset=dataset,
        recipe=recipe,
        model=model,
        config=_config_for_classes(config, model, recipe, dataset),
        steps_per_epoch=steps_per_epoch(dataset, recipe.micro_batch_size),
        seed=seed,
        weights=weights,
        class_weights=resolve_class_weights(class_weights, dataset),
        teacher=teacher,
        gradient_checkpointing=gradient_checkpointing,
        jit_compile=jit_compile,
        reading={"max_unreadable": max_unreadable, "follow_links": follow_links},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides a run: the arguments of `plan_training`, checked and resolved."""

    data: str  # origin of the images: a path or a name
    dataset: ImageDataset
    recipe: Recipe
    model: str | CrossViT
    config: CrossViTConfig  # for the classes of the images
    steps_per_epoch: int  # of recipe.micro_batch_size images
    seed: int
    weights: str | None
    class_weights: tuple[float, ...] | None  # in the order of the classes
    teacher: str | None
    gradient_checkpointing: bool
    jit_compile: bool
    reading: dict[str, Any]  # how to read the images again

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model if isinstance(self.model, str) else self.model.name

    def build_model(self, *, copy: bool = False) -> CrossViT:
        """Returns the model to train, with random weights from the seed or with weights from a file.

        Args:
            copy: Whether to copy a model that was given, since its variables belong to the devices they were made for.
                Defaults to False.
        """
        keras.utils.set_random_seed(self.seed)
        if isinstance(self.model, CrossViT):
            model = copy_to_train(self.model) if copy else self.model
        else:
            keywords: dict[str, Any] = {"name": self.model, "dtype": self.recipe.precision}
            keywords["class_names"] = self.dataset.class_names
            if self.weights is None:
                model = CrossViT(self.config, **keywords)
            else:
                weights = weights_of(self.model, self.weights)
                model, loaded = build_with_weights(self.config, weights, ("head", "positions"), **keywords)
                for line in loaded.adaptations:
                    logger.info(line)
        if self.gradient_checkpointing:
            model.gradient_checkpointing = True
        return model

    def settings(self) -> dict[str, Any]:
        """Returns everything that decides the result, as JSON values."""
        return {
            "data": self.data,
            "images": {
                "training": len(self.dataset.training),
                "validation": len(self.dataset.validation or ()),
                "sha256": self.dataset.fingerprint(),
            },
            "validation_split": self.dataset.validation_split,
            "class_names": list(self.dataset.class_names),
            "model": self.name,
            "architecture": self.config.to_dict(),
            "recipe": dataclasses.asdict(self.recipe),
            "steps_per_epoch": self.steps_per_epoch,
            "seed": self.seed,
            "weights": self.weights,
            "class_weights": self.class_weights,
            "teacher": self.teacher,
            "gradient_checkpointing": self.gradient_checkpointing,
            "jit_compile": self.jit_compile,
        }


def check_compatible(recipe: Recipe, class_weights: Any, teacher: Any) -> None:
    """Raises InvalidValueError if the recipe's loss cannot be combined with class weights or a teacher."""
    if recipe.probe and teacher is not None:
        raise InvalidValueError("a teacher cannot be combined with recipe 'probe', which fits only the heads; use one.")
    if recipe.loss != "binary":
        return
    if class_weights is not None:
        raise InvalidValueError(
            "class_weights cannot be combined with loss 'binary', where an image may have no class; use one of them."
        )
    if teacher is not None:
        raise InvalidValueError(
            "a teacher cannot be combined with loss 'binary': distillation compares softmax probabilities; use one."
        )


def list_classes(names: Sequence[str]) -> str:
    """Returns class names for one line: all of a few, or the first ones and how many more there are."""
    return listed([shown_name(name) for name in names], _LISTED_CLASSES)


def _config_to_train(model: str | CrossViT, recipe: Recipe, weights: Any) -> CrossViTConfig:
    """Returns the configuration of the model to train, or raises if it cannot be trained."""
    if isinstance(model, str):
        img_size = recipe.img_size or variant_config(model).img_size
        return variant_config(model, drop_path_rate=recipe.drop_path_rate, img_size=img_size)
    config = config_of(model)
    if weights is not None:
        raise InvalidValueError(
            f"weights {str(weights)!r} need the name of a published model, but a model with weights of its own was "
            "given; leave them out, or load them with load_checkpoint() first."
        )
    if model.classifier_activation is not None:
        raise InvalidValueError(
            f"the model applies classifier_activation {model.classifier_activation!r}, but training needs logits; "
            "rebuild it with classifier_activation=None, or pass its published name and weights=<its file>."
        )
    if quantized := quantized_layers(model):
        raise InvalidValueError(
            f"the model has {len(quantized)} quantized layers, such as '{quantized[0].path}', which cannot be trained; "
            "train the model before quantize()."
        )
    return config


def _config_for_classes(
    config: CrossViTConfig, model: str | CrossViT, recipe: Recipe, dataset: ImageDataset
) -> CrossViTConfig:
    """Returns the configuration with the number of classes of the images, or raises if they do not fit."""
    if dataset.is_multi_label and recipe.loss != "binary":
        raise InvalidValueError(
            f"loss {recipe.loss!r} needs one class per image, but these images may have several: their labels are "
            "vectors of 0 and 1. Map one-hot labels to class numbers with tf.argmax; for several classes per image "
            "use loss='binary' (--set loss=binary)."
        )
    num_classes = len(dataset.class_names)
    if num_classes < 2 and recipe.loss != "binary":
        raise InvalidValueError(
            f"all images are of one class, '{dataset.class_names[0]}'; add a folder for each other class, or pass the "
            "folder that contains the class folders."
        )
    if isinstance(model, CrossViT) and config.num_classes != num_classes:
        raise InvalidValueError(
            f"the model has num_classes {config.num_classes}, but the images have {num_classes} classes; build it with "
            f"num_classes={num_classes}."
        )
    return dataclasses.replace(config, num_classes=num_classes)


def _weights_to_start_from(model: str | CrossViT, recipe: Recipe, weights: str | PathLike | None) -> str | None:
    """Returns "imagenet", the path of a file, or None for random initialization or the weights of a model.

    Published weights are downloaded now: without a network, that fails before the images are read.
    """
    if isinstance(model, CrossViT):
        return None
    is_default = weights is None
    if is_default and recipe.starts_from == CHECKPOINT:
        raise InvalidValueError(
            "this recipe continues from the weights of another training; pass them as weights (--weights FILE)."
        )
    start = (IMAGENET if recipe.starts_from == PUBLISHED else None) if is_default else weights
    start = None if start == NO_WEIGHTS else start
    if start is None and recipe.starts_from != RANDOM:
        logger.warning(
            "This recipe is meant for pretrained weights, but this run starts from random ones; use recipe 'scratch'."
        )
    elif start is not None and recipe.starts_from == RANDOM:
        logger.warning(
            "This recipe is meant for random initialization, but this run starts from '%s'; use recipe 'finetune'.",
            start,
        )
    if start != IMAGENET:
        return _model_file(start)
    try:
        weights_of(model, IMAGENET)
    except (OSError, ImportError) as error:
        if not is_default:
            raise
        raise DownloadError(
            f"This recipe starts from the published weights, which could not be fetched ({str(error).rstrip('.')}). Or "
            f"start from random ones: recipe 'scratch' (--recipe scratch), or weights='{NO_WEIGHTS}' (--weights "
            f"{NO_WEIGHTS})."
        ) from error
    return IMAGENET


def _model_file(path: str | PathLike | None) -> str | None:
    """Returns the absolute path of a model's file, or of the best model in a run folder."""
    if path is None:
        return None
    if not (file := resolve_model_path(path)).is_file():
        raise MissingFileError(f"'{path}' is neither a file nor a run folder with a model.")
    return str(file.resolve())
