"""Loads and runs models of any format, each in its own runtime. Only Keras files need Keras."""

from keras_crossvit.runtimes.classification import classify
from keras_crossvit.runtimes.loading import load_runtime
from keras_crossvit.runtimes.runtime import Runtime

__all__ = ["Runtime", "classify", "load_runtime"]
