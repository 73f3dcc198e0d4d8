"""The same work, side by side: this package on its backends and runtimes, and its peers."""

from keras_crossvit.benchmark.contenders import CONTENDERS
from keras_crossvit.benchmark.work import MODES, PRECISIONS, Work, plan

__all__ = ["CONTENDERS", "MODES", "PRECISIONS", "Work", "plan"]
