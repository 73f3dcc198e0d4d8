"""The same work, side by side: this package on its backends and runtimes, and its peers."""

from benchmarks.runners import CONTENDERS
from benchmarks.workload import MODES, PRECISIONS, Work, plan

__all__ = ["CONTENDERS", "MODES", "PRECISIONS", "Work", "plan"]
