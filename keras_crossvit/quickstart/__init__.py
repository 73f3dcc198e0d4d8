"""The first command to try: trains, evaluates and exports a model of handwritten digits."""

from keras_crossvit.quickstart.quickstart import QuickstartResult, quickstart

__all__ = ["QuickstartResult", "quickstart"]
