"""The newcomer's first command: train, evaluate, export and reload on real handwritten digits."""

from keras_crossvit.quickstart.quickstart import QuickstartResult, quickstart

__all__ = ["QuickstartResult", "quickstart"]
