"""Weights in timm's names and layout, as files and as mappings, on any backend of Keras."""

from keras_crossvit.checkpoints.adaptation import ADAPTATIONS, LOADING_KEYWORDS, LoadResult
from keras_crossvit.checkpoints.hub import fetch_imagenet_weights
from keras_crossvit.checkpoints.names import timm_name
from keras_crossvit.checkpoints.tensors import state_dict
from keras_crossvit.checkpoints.writing import load_checkpoint, save_checkpoint

__all__ = [
    "ADAPTATIONS",
    "LOADING_KEYWORDS",
    "LoadResult",
    "fetch_imagenet_weights",
    "load_checkpoint",
    "save_checkpoint",
    "state_dict",
    "timm_name",
]
