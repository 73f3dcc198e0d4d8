"""The ceiling of any contender: a matrix product, on the processors by NumPy's BLAS or on the card by PyTorch."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

# Large enough for full speed; on processors small enough for the cache.
_SIDE, _SIDE_ON_CARD = 1024, 8192


def prepare(task: dict[str, Any]) -> Any:
    """The contender for a task of the worker's."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            return ProductOnDevice("cuda", _SIDE_ON_CARD, task["work"]["precision"])
    return _Product()


class _Product:
    """A float32 product on the processors.

    Attributes:
        macs: Multiply-accumulates of a step.
    """

    macs = _SIDE**3

    def __init__(self) -> None:
        self._matrix = np.random.default_rng(0).normal(size=(_SIDE, _SIDE)).astype("float32")

    def step(self) -> None:
        np.matmul(self._matrix, self._matrix)


class ProductOnDevice:
    """A product on a device of PyTorch's, in the precision of the work; float32 as it is, without TF32.

    Args:
        device: The device.
        side: Rows and columns of the matrices.
        precision: "bfloat16"; the product of any other is in float32.

    Attributes:
        macs: Multiply-accumulates of a step.
    """

    def __init__(self, device: str, side: int, precision: str) -> None:
        import torch

        self.macs = side**3
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._matrix = torch.randn(side, side, device=device, dtype=dtype)

    def step(self) -> None:
        """Multiplies, and waits until the product is there."""
        (self._matrix @ self._matrix)[0, 0].item()
