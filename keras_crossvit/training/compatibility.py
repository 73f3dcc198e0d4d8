"""What of a model, a recipe and pictures goes together."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_crossvit.config import CrossViTConfig
from keras_crossvit.crossvit import CrossViT
from keras_crossvit.layers.parts import quantized_layers
from keras_crossvit.pipeline import Source
from keras_crossvit.training.recipe import Recipe
from keras_crossvit.variants import get_config


def require_that_they_go_together(recipe: Recipe, class_weights: Any, teacher: Any) -> None:
    """Raises ValueError where a recipe's loss leaves no room for class weights or a teacher."""
    if recipe.loss == "binary" and class_weights is not None:
        raise ValueError(
            "class_weights do not go with loss 'binary', where a picture may be of no class; leave one out."
        )
    if recipe.loss == "binary" and teacher is not None:
        raise ValueError("a teacher does not go with loss 'binary': its logits are compared by softmax; leave one out.")


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
            raise ValueError(
                f"weights {str(weights)!r} go with the name of a published model, and this model is taken with its "
                "own; leave them out, or load them into it before by load_checkpoint()."
            )
        if model.classifier_activation is not None:
            raise ValueError(
                f"the model's classifier_activation {model.classifier_activation!r} hides the logits that it learns "
                "by; build it without, or name a published model and start from this one's file by weights=..."
            )
        quantized = quantized_layers(model)
        if quantized:
            raise ValueError(
                f"the model has {len(quantized)} quantized layers, such as '{quantized[0].path}', whose weights do not "
                "train; train it as it was before quantize(), and quantize what comes of it."
            )
        return model.config
    sizes = {} if recipe.img_size is None else {"img_size": recipe.img_size}
    return get_config(model, drop_path_rate=recipe.drop_path_rate, **sizes)


def with_classes(config: CrossViTConfig, model: str | CrossViT, recipe: Recipe, source: Source) -> CrossViTConfig:
    """The configuration with the classes of the pictures.

    Raises:
        ValueError: the recipe's loss or the model does not take these classes; the message says what would.
    """
    if source.has_vectors and recipe.loss != "binary":
        raise ValueError(
            f"loss {recipe.loss!r} takes one class per picture, and these may be of several; use loss='binary' (--set "
            "loss=binary), or give class numbers as labels."
        )
    classes = len(source.class_names)
    if classes < 2 and recipe.loss != "binary":
        raise ValueError(
            f"all pictures are of one class, '{source.class_names[0]}', with nothing to tell it from; add a folder for "
            "each other class, or name the folder that holds those of the classes."
        )
    if isinstance(model, CrossViT) and config.num_classes != classes:
        raise ValueError(
            f"the model has num_classes {config.num_classes} where the pictures have {classes} classes; build it with "
            f"num_classes={classes}."
        )
    return dataclasses.replace(config, num_classes=classes)
