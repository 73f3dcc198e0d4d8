"""Weights by timm's names and in timm's layout, in files and mappings, for every Keras backend."""

from keras_crossvit.checkpoints.adaptation import LoadResult
from keras_crossvit.checkpoints.hub import fetch_imagenet_weights
from keras_crossvit.checkpoints.names import timm_name
from keras_crossvit.checkpoints.reading import load_checkpoint
from keras_crossvit.checkpoints.tensors import state_dict
from keras_crossvit.checkpoints.writing import save_checkpoint

__all__ = [
    "LoadResult",
    "fetch_imagenet_weights",
    "load_checkpoint",
    "save_checkpoint",
    "state_dict",
    "timm_name",
]
