"""Recipes by name. Each opens with its source and with what is to be expected of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_crossvit.checks import require_known
from keras_crossvit.config import require_known_keywords
from keras_crossvit.pipeline import Augmentation
from keras_crossvit.training.recipe import Recipe

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
    warmup_share=30 / 300,
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
    warmup_share=5 / 30,
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
    warmup_share=5 / 1000,
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
