"""Pictures on their way into a CrossViT, and predictions on their way out."""

from keras_crossvit.data.predictions import decode_predictions
from keras_crossvit.data.preprocessing import preprocess

__all__ = ["decode_predictions", "preprocess"]
