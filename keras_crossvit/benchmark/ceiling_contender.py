"""The ceiling of any contender: one float32 matrix product, by NumPy's BLAS on the same processors."""

from __future__ import annotations

from typing import Any

import numpy as np

SIDE = 1024


def prepare(task: dict[str, Any]) -> _Product:
    """The contender for a task of the worker's."""
    return _Product()


class _Product:
    """A product of `SIDE` ** 3 multiply-accumulates, large enough for BLAS and small enough for the cache."""

    def __init__(self) -> None:
        self._matrix = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype("float32")

    def step(self) -> None:
        np.matmul(self._matrix, self._matrix)
