"""Errors that more than one room has to know."""

from __future__ import annotations


class ProcessLostError(RuntimeError):
    """Another process of a run is gone; the same command in each process goes on from the run's last state."""
