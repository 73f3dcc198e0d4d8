"""What the tests of explanations share."""

import numpy as np

import keras_crossvit as kc


def photo(height=60, width=90, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype="uint8")


def require_explanations(model):
    """Fails unless a model that has been changed can be explained."""
    for method in ("ablation", "attention", "occlusion"):
        assert np.isfinite(kc.explain(model, photo(), method=method).small_patch).all()
