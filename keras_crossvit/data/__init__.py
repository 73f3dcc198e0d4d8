"""What goes into a model and what comes out of it, in the terms of pictures and class names."""

from keras_crossvit.data.predictions import decode_predictions

__all__ = ["decode_predictions"]
