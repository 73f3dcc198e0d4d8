"""Models ready to run, of Keras or exported, each by its own runtime; none but Keras' own needs Keras."""

from keras_crossvit.runtimes.loading import load_runtime, load_runtime_silently
from keras_crossvit.runtimes.runtime import Runtime

__all__ = ["Runtime", "load_runtime", "load_runtime_silently"]
