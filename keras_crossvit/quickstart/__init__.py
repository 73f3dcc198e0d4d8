"""The first command to try: trains, evaluates and exports a model of handwritten digits."""

from keras_crossvit.quickstart.quickstart import quickstart

__all__ = ["quickstart"]
