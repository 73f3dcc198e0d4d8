"""Turns images into the two inputs of a CrossViT, and probabilities into class names."""

from keras_crossvit.preprocessing.predictions import decode_predictions
from keras_crossvit.preprocessing.transforms import preprocess

__all__ = ["decode_predictions", "preprocess"]
