"""CrossViT (Chen et al., ICCV 2021) for Keras 3: every official variant, exact, trainable and ready for production."""

from typing import Any

from keras_crossvit import layers
from keras_crossvit.checkpoints import load_checkpoint, save_checkpoint, state_dict
from keras_crossvit.config import CrossViTConfig
from keras_crossvit.crossvit import CrossViT
from keras_crossvit.data import decode_predictions, preprocess
from keras_crossvit.derived import feature_extractor, single_image
from keras_crossvit.models import (
    build_crossvit,
    create_model,
    crossvit_9,
    crossvit_9_dagger,
    crossvit_15,
    crossvit_15_dagger,
    crossvit_15_dagger_408,
    crossvit_18,
    crossvit_18_dagger,
    crossvit_18_dagger_408,
    crossvit_base,
    crossvit_small,
    crossvit_tiny,
)
from keras_crossvit.restored import create_model_from
from keras_crossvit.variants import get_config, list_models
from keras_crossvit.version import __version__

__all__ = [
    "CrossViT",
    "CrossViTConfig",
    "__version__",
    "build_crossvit",
    "create_model",
    "create_model_from",
    "crossvit_9",
    "crossvit_9_dagger",
    "crossvit_15",
    "crossvit_15_dagger",
    "crossvit_15_dagger_408",
    "crossvit_18",
    "crossvit_18_dagger",
    "crossvit_18_dagger_408",
    "crossvit_base",
    "crossvit_small",
    "crossvit_tiny",
    "decode_predictions",
    "evaluate",
    "feature_extractor",
    "get_config",
    "layers",
    "list_models",
    "load_checkpoint",
    "preprocess",
    "save_checkpoint",
    "single_image",
    "state_dict",
    "train",
]

_BRING_TENSORFLOW = ("evaluate", "train")


def __getattr__(name: str) -> Any:
    """What needs TensorFlow is imported when it is asked for."""
    if name not in _BRING_TENSORFLOW:
        raise AttributeError(f"module 'keras_crossvit' has no attribute '{name}'")
    from keras_crossvit import training

    return getattr(training, name)
