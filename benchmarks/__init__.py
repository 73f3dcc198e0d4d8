"""The same work, side by side: this package on its backends and runtimes, and its peers."""

from benchmarks.runners import RUNNERS
from benchmarks.workload import MODES, PRECISIONS, Workload, plan

__all__ = ["MODES", "PRECISIONS", "RUNNERS", "Workload", "plan"]
