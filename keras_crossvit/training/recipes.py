"""Recipes by name. Each opens with its source and with what is to be expected of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_crossvit.checks import require_known
from keras_crossvit.config import require_known_keywords
from keras_crossvit.pipeline import Augmentation
from keras_crossvit.training.recipe import Recipe

IMAGENET = Recipe(
    source="Chen, Fan and Panda, ICCV 2021, section 4.1 and the authors' defaults: DeiT's recipe, with 30 epochs of "
    "warm-up in place of 5 and a batch of 4096",
    expected="ImageNet-1k top-1 of the paper's table: 77.1 for crossvit_9_dagger, 82.3 for crossvit_15_dagger; "
    "this project has not run it",
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
    "224. The paper leaves the learning rate open; it and the weight decay are those of DeiT's fine-tuning at 384",
    expected="ImageNet-1k top-1 of the paper's table: 83.5 for crossvit_15_dagger_408; this project has not run it",
    epochs=30,
    batch_size=512,
    learning_rate=5e-6,
    warmup_learning_rate=5e-6,
    warmup_share=0.0,
    final_learning_rate=5e-6,
    weight_decay=1e-8,
    img_size=(408, 384),
)

TRANSFER = Recipe(
    source="Chen, Fan and Panda, ICCV 2021, section 4.2: SGD 0.01, batch 768, weight decay 1e-4, 5 of 1000 epochs of "
    "warm-up, no erasing, no drop-path",
    expected="CIFAR-10 99.1 and Flowers-102 98.2 for the paper's crossvit_15 and crossvit_18 from ImageNet weights; "
    "this project has not run it",
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
    source="this project, for hundreds to thousands of pictures and pretrained weights: AdamW with layer-wise decay as "
    "BEiT fine-tunes, a running mean of the weights, mild augmentation",
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
