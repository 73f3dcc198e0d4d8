"""Comparison of a model's exports on one's own images: accuracy, speed, size, memory, and which file to take."""

from keras_crossvit.comparing.comparison import compare
from keras_crossvit.comparing.results import Comparison, Measurement

__all__ = ["Comparison", "Measurement", "compare"]
