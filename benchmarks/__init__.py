"""Benchmarks of this package's backends and runtimes beside timm: `python -m benchmarks --help`."""

from benchmarks.runners import RUNNERS
from benchmarks.workload import MODES, PRECISIONS, Workload, count_macs, plan

__all__ = ["MODES", "PRECISIONS", "RUNNERS", "Workload", "count_macs", "plan"]
