"""Plots: learning curves, confusion matrix, average precision, reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_crossvit._internal.figures import new_figure, save_figure
from keras_crossvit._internal.user_text import shown_name
from keras_crossvit.evaluation.metrics import BINS
from keras_crossvit.preprocessing.calibration import ACCURACY, coverage_curve

if TYPE_CHECKING:
    from keras_crossvit.evaluation.results import Evaluation

_MAX_LABELS = 30  # more class names than these are not readable
_NOT_PLOTTED = ("epoch", "seconds", "images_per_second")
_BLUE, _RED, _GRAY = "#4c78a8", "#e45756", "#9aa5b1"


def draw_learning_curves(path: str | PathLike, history: Sequence[Mapping[str, float]]) -> None:
    """Writes a PNG of every metric by epoch, training and validation together.

    Args:
        path: The file.
        history: A row per epoch; names of validation metrics begin with `val_`.
    """
    names = [name for name in history[0] if name not in _NOT_PLOTTED and not name.startswith("val_")]
    names.sort(key=lambda name: (not name.endswith("loss"), name == "learning_rate"))
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure, axes = new_figure(rows, columns, (4.6 * columns, 3.6 * rows))
    epochs = np.arange(1, len(history) + 1)
    for axis, name in zip(np.ravel(axes), names, strict=False):
        axis.plot(epochs, [row[name] for row in history], marker=".", label="training")
        if f"val_{name}" in history[0]:
            axis.plot(epochs, [row[f"val_{name}"] for row in history], marker=".", label="validation")
            axis.legend()
        axis.set_title(shown_name(name.replace("_", " ")))
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.grid(alpha=0.3)
    for axis in np.ravel(axes)[len(names) :]:
        axis.set_axis_off()
    save_figure(figure, path)


def draw_coverage(path: str | PathLike, evaluations: Mapping[str, Evaluation], threshold: float | None) -> None:
    """Writes a PNG of the accuracy on the images that are answered, over their fraction, the surest first.

    Args:
        path: The file.
        evaluations: By their names.
        threshold: Confidence from which on the last of them answers, or None.
    """
    figure, axis = new_figure(1, 1, (4.6, 3.6))
    for name, color, each in zip(evaluations, (_GRAY, _BLUE), evaluations.values(), strict=True):
        confidence = np.array([row["probability"] for row in each.predictions])
        is_right = np.array([row["class"] == row["predicted"] for row in each.predictions])
        axis.plot(*coverage_curve(confidence, is_right), color=color, label=name)
    if threshold is not None:
        axis.axvline(np.mean(confidence >= threshold), color=_RED, linestyle=":", label="threshold")
    axis.axhline(ACCURACY, color=_RED, linewidth=0.8)
    axis.set_xlabel("fraction of images answered")
    axis.set_ylabel("accuracy on them")
    axis.legend()
    axis.grid(alpha=0.3)
    save_figure(figure, path)


def draw_confusion(path: str | PathLike, confusion: np.ndarray, class_names: Sequence[str]) -> None:
    """Writes a PNG of a confusion matrix: colors are fractions of each class, numbers are counts."""
    num_classes = len(class_names)
    names = [shown_name(name) for name in class_names]
    fractions = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = min(10.0, 3.0 + 0.35 * num_classes) + (_label_inches(names) if num_classes <= _MAX_LABELS else 0)
    figure, axis = new_figure(1, 1, (side, side))
    image = axis.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    if num_classes <= _MAX_LABELS:
        axis.set_xticks(range(num_classes), names, rotation=90)
        axis.set_yticks(range(num_classes), names)
        for row, column in zip(*np.nonzero(confusion), strict=True):
            color = "white" if fractions[row, column] > 0.5 else "black"
            axis.text(column, row, str(confusion[row, column]), ha="center", va="center", color=color, fontsize=8)
    else:
        figure.colorbar(image, ax=axis, label="fraction of the true class", shrink=0.8)
    save_figure(figure, path)


def draw_average_precision(path: str | PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a PNG of every class's average precision, the highest on top, with the number of images.

    Args:
        path: The file.
        rows: `class`, `images` and `average_precision` of each class; those with None are left out.
    """
    rows = sorted((row for row in rows if row["average_precision"] is not None), key=lambda r: r["average_precision"])
    names = [shown_name(row["class"]) for row in rows]
    figure, axis = new_figure(1, 1, (5.5 + _label_inches(names), min(12.0, 1.5 + 0.3 * len(rows))))
    bars = axis.barh(range(len(rows)), [row["average_precision"] for row in rows], color=_BLUE)
    if len(rows) <= _MAX_LABELS:
        axis.set_yticks(range(len(rows)), names)
        axis.bar_label(bars, [str(row["images"]) for row in rows], padding=3, fontsize=8)
    else:
        axis.set_ylabel("class")
    axis.set_xlim(0, 1.08)
    axis.set_xlabel("average precision (numbers: images of the class)")
    save_figure(figure, path)


def draw_reliability(path: str | PathLike, bins: np.ndarray, calibration_error: float) -> None:
    """Writes a PNG of a reliability diagram: accuracy by confidence, and how often each confidence occurs."""
    confidence, accuracy, counts = bins.T
    used = counts > 0
    figure, (upper, lower) = new_figure(2, 1, (5.5, 6), height_ratios=(3, 1), sharex=True)
    middles = (np.arange(BINS) + 0.5) / BINS
    upper.bar(middles[used], accuracy[used], width=0.9 / BINS, color=_BLUE, label="accuracy")
    upper.plot(confidence[used], confidence[used], "o", color=_RED, label="confidence")
    upper.plot([0, 1], [0, 1], "--", color="gray", linewidth=1)
    upper.set_ylabel("accuracy")
    upper.set_ylim(0, 1.02)
    upper.legend(loc="upper left")
    upper.set_title(f"expected calibration error {calibration_error:.2%}")
    lower.bar(middles, counts, width=0.9 / BINS, color=_GRAY)
    lower.set_xlabel("confidence")
    lower.set_ylabel("predictions")
    lower.set_xlim(0, 1)
    save_figure(figure, path)


def _label_inches(names: Sequence[str]) -> float:
    """Inches that the longest name needs beyond the margin that every figure has."""
    return 0.13 * max(0, max(map(len, names), default=0) - 10)
