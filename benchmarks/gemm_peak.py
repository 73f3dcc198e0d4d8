"""Measures the rate of a matrix product (GEMM), as an upper bound for the models."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workload import Workload

# Large enough for the full rate; on processors small enough for the cache.
_SIDE, _SIDE_ON_GPU = 1024, 8192
# Of the drivers of NVIDIA, AMD and WSL; without one of them PyTorch, which takes seconds to import, finds no GPU.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class GemmPeak:
    """A product of square matrices: in float32 by NumPy's BLAS, or on a GPU by PyTorch in the workload's precision.

    Float32 products on a GPU do not use TF32.

    Attributes:
        macs: Multiply-accumulates per step.
    """

    def __init__(self, workload: Workload, folder: Path) -> None:
        self._matrix: Any = np.random.default_rng(0).normal(size=(_SIDE, _SIDE)).astype("float32")
        if any(map(os.path.exists, _GPU_DEVICES)) and importlib.util.find_spec("torch") is not None:
            import torch

            if torch.cuda.is_available():
                self._matrix = random_matrix("cuda", _SIDE_ON_GPU, workload.precision)
        self.macs = len(self._matrix) ** 3

    def step(self) -> None:
        """Multiplies and waits for the product."""
        (self._matrix @ self._matrix)[0, 0].item()


def random_matrix(device: str, side: int, precision: str) -> Any:
    """Returns a square PyTorch tensor, in float32 unless the precision is bfloat16."""
    import torch

    return torch.randn(side, side, device=device, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32)
