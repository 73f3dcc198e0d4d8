"""Explains which parts of an image speak for a class, at both scales. Only `explainer` and `image_files` need Keras."""

from keras_crossvit.explaining.explanation import METHODS, Explanation

__all__ = ["METHODS", "Explanation"]
