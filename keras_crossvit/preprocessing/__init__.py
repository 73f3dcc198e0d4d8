"""Pictures on their way into a CrossViT, and predictions on their way out."""

from keras_crossvit.preprocessing.predictions import decode_predictions
from keras_crossvit.preprocessing.transforms import preprocess

__all__ = ["decode_predictions", "preprocess"]
