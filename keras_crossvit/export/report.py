"""How far an artefact is from its model, and how fast: figures, and what is written of them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPORT_NAME = "export_report.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArtefactReport:
    """What an export wrote and found.

    Args:
        path: The artefact.
        format: Its format.
        quantize: Its precision, or None for float32.
        batch_size: Pictures that it takes at once, or None for any number.
        size: Bytes of all its files.
        relative_rms: Root mean square of the difference of the logits over that of the Keras model's logits.
        tolerance: Largest `relative_rms` that the format allows.
        largest_difference: Largest difference of a logit.
        agreeing: Pictures whose most probable class is the same; of one class, whether it is above 1/2.
        compared: Pictures that were compared.
        pictures: What they are.
        milliseconds: Median time of a call with `timed_batch` pictures, the artefact in its runtime.
        keras_milliseconds: The same of the Keras model as a tf.function, in turn with the artefact.
        timed_batch: Pictures per timed call.
        threads: Threads of the artefact's runtime, or None for those that this process's TensorFlow has.
    """

    path: Path
    format: str
    quantize: str | None
    batch_size: int | None
    size: int
    relative_rms: float
    tolerance: float
    largest_difference: float
    agreeing: int
    compared: int
    pictures: str
    milliseconds: float
    keras_milliseconds: float
    timed_batch: int
    threads: int | None

    def to_json(self) -> str:
        """The figures as JSON text; `path` is the artefact's name."""
        return json.dumps({**dataclasses.asdict(self), "path": self.path.name}, indent=2) + "\n"

    def __str__(self) -> str:
        batch = "any batch size" if self.batch_size is None else f"batch size {self.batch_size}"
        timed = f"{self.timed_batch} picture{'s' if self.timed_batch > 1 else ''}, median of runs in turn"
        return "\n".join(
            [
                f"{self.path}: {self.format}, {self.quantize or 'float32'}, {batch}",
                f"  size                 {self.size / 1e6:.2f} MB",
                f"  relative rms         {self.relative_rms:.2g} of the logits (at most {self.tolerance:g})",
                f"  largest difference   {self.largest_difference:.2g}",
                f"  same top-1           {self.agreeing} of {self.compared} ({self.pictures})",
                f"  latency              {self.milliseconds:.1f} ms, Keras {self.keras_milliseconds:.1f} ms ({timed})",
            ]
        )


def relative_rms(given: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square of the difference over that of what was expected."""
    given, expected = (each.astype("float64") for each in (given, expected))
    return float(np.sqrt(np.mean((given - expected) ** 2) / np.mean(expected**2)))


def compare(logits: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """Differences of an artefact's logits from the model's, by the names of `ArtefactReport`.

    A value that is not finite makes them so.
    """
    return {
        "relative_rms": relative_rms(logits, expected),
        "largest_difference": float(np.abs(logits.astype("float64") - expected).max()),
        "agreeing": int(np.sum(_top1(logits) == _top1(expected))),
        "compared": len(expected),
    }


def _top1(logits: np.ndarray) -> np.ndarray:
    return logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(axis=1)


def interleaved_milliseconds(calls: list[Callable[[], Any]], *, rounds: int = 9) -> list[float]:
    """Median time of each call, run in turn so that what else the machine does meets all alike."""
    times = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - start))
    return [float(np.median(taken[1:])) for taken in times]  # the first prepares buffers
