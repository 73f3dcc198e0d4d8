"""A CrossViT with all its parts, small enough for any test."""

import numpy as np

import keras_crossvit as kc

TINY = {
    "img_size": (48, 32),
    "embed_dim": (16, 24),
    "depth": ((1, 1, 0),),
    "num_heads": (2, 3),
    "mlp_ratio": (2, 2, 1),
}


# For what depends on the order of blocks and stages.
DEEPER = {"depth": ((1, 2, 0), (1, 1, 0))}


def tiny(num_classes=5, **arguments):
    return kc.crossvit_9_dagger(num_classes, **{**TINY, **arguments})


def images(model, batch=2, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=(batch, *each.shape[1:])).astype("float32") for each in model.inputs]
