"""What quickstart shows: sample predictions and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from keras_crossvit.files import written_whole
from keras_crossvit.optional import require_library

_ROWS, _COLUMNS = 4, 8
_RIGHT, _WRONG = "#1a7f37", "#c62828"


def draw_predictions(
    path: str | PathLike, pictures: np.ndarray, labels: Sequence[int], probabilities: np.ndarray
) -> None:
    """Writes a PNG of pictures with the predicted class and its probability; mistakes come first, in red."""
    predicted = probabilities.argmax(axis=1)
    mistakes_first = np.argsort(predicted == labels, kind="stable")[: _ROWS * _COLUMNS]
    wrong = int(np.sum(predicted != labels))
    figure, axes = _figure(_ROWS, _COLUMNS, (12, 7))
    for axis, i in zip(axes.flat, mistakes_first, strict=False):
        axis.imshow(pictures[i], cmap="gray_r")
        right = predicted[i] == labels[i]
        text = f"{predicted[i]}  {probabilities[i, predicted[i]]:.0%}" + ("" if right else f"\nis a {labels[i]}")
        axis.set_title(text, color=_RIGHT if right else _WRONG, fontsize=11)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.suptitle(f"Held-out digits: {len(labels) - wrong} of {len(labels)} right, {wrong} wrong (shown first)")
    _save(figure, path)


def draw_learning_curves(path: str | PathLike, history: Mapping[str, Sequence[float]]) -> None:
    """Writes a PNG of loss and accuracy over the epochs, on learnt and held-out pictures."""
    figure, axes = _figure(1, 2, (11, 4))
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axis, metric in zip(axes, ("loss", "accuracy"), strict=True):
        axis.plot(epochs, history[metric], marker=".", label="learnt")
        axis.plot(epochs, history[f"val_{metric}"], marker=".", label="held out")
        axis.set_xlabel("epoch")
        axis.set_title(metric)
        axis.grid(alpha=0.3)
        axis.legend()
    axes[0].set_yscale("log")
    axes[0].set_ylabel("cross-entropy, log scale")
    axes[1].set_ylim(top=1.005)
    _save(figure, path)


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    # Without pyplot: no window system is asked for, and no global state is left behind.
    figure = require_library("matplotlib.figure", "quickstart").Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns)


def _save(figure: Any, path: str | PathLike) -> None:
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, dpi=110)
