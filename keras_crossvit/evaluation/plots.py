"""Pictures of a run: learning curves, confusion, reliability."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit._internal.files import atomic_write, shown_name
from keras_crossvit._internal.optional import require_library
from keras_crossvit.evaluation.metrics import BINS

_NAMED_CLASSES = 30  # more names than these cannot be read
_FONTS_OF_MANY_SCRIPTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Arial Unicode MS", "Microsoft YaHei", "PingFang SC", "Hiragino Sans"),
    *("WenQuanYi Zen Hei", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans Hebrew", "Noto Sans Thai"),
)
_TIMES = ("epoch", "seconds", "images_per_second")


def draw_learning_curves(path: str | PathLike, history: Sequence[Mapping[str, float]]) -> None:
    """Writes a PNG of every figure over the epochs, of training and of held-out pictures together.

    Args:
        path: The file.
        history: A row per epoch; the figures of held-out pictures begin with `val_`.
    """
    names = [name for name in history[0] if name not in _TIMES and not name.startswith("val_")]
    names.sort(key=lambda name: (not name.endswith("loss"), name == "learning_rate"))
    columns = min(2, len(names))
    figure, axes = new_figure(-(-len(names) // columns), columns, (4.6 * columns, 3.6 * -(-len(names) // columns)))
    epochs = np.arange(1, len(history) + 1)
    for axis, name in zip(np.ravel(axes), names, strict=False):
        axis.plot(epochs, [row[name] for row in history], marker=".", label="training")
        if f"val_{name}" in history[0]:
            axis.plot(epochs, [row[f"val_{name}"] for row in history], marker=".", label="held out")
            axis.legend()
        axis.set_title(name.replace("_", " "))
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.grid(alpha=0.3)
    for axis in np.ravel(axes)[len(names) :]:
        axis.set_axis_off()
    save_figure(figure, path)


def draw_confusion(path: str | PathLike, confusion: np.ndarray, class_names: Sequence[str]) -> None:
    """Writes a PNG of what is taken for what: shares of each class's pictures, with counts where there is room."""
    num_classes = len(class_names)
    names = [shown_name(name) for name in class_names]
    fractions = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = min(10.0, 3.0 + 0.35 * num_classes) + (_room_for(names) if num_classes <= _NAMED_CLASSES else 0)
    figure, axis = new_figure(1, 1, (side, side))
    image = axis.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    axis.set_xlabel("taken for")
    axis.set_ylabel("class")
    if num_classes <= _NAMED_CLASSES:
        axis.set_xticks(range(num_classes), names, rotation=90)
        axis.set_yticks(range(num_classes), names)
        for row, column in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if fractions[row, column] > 0.5 else "black"
            axis.text(column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=8)
    else:
        figure.colorbar(image, ax=axis, label="share of the class's pictures", shrink=0.8)
    save_figure(figure, path)


def draw_average_precision(path: str | PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a PNG of every class's average precision as a bar, the best on top, with how many pictures are of it.

    Args:
        path: The file.
        rows: `class`, `images` and `average_precision` of each; None where no picture is of it, and nothing drawn.
    """
    rows = sorted((row for row in rows if row["average_precision"] is not None), key=lambda r: r["average_precision"])
    names = [shown_name(row["class"]) for row in rows]
    figure, axis = new_figure(1, 1, (5.5 + _room_for(names), min(12.0, 1.5 + 0.3 * len(rows))))
    bars = axis.barh(range(len(rows)), [row["average_precision"] for row in rows], color="#4c78a8")
    if len(rows) <= _NAMED_CLASSES:
        axis.set_yticks(range(len(rows)), names)
        axis.bar_label(bars, [str(row["images"]) for row in rows], padding=3, fontsize=8)
    else:
        axis.set_ylabel("class_names")
    axis.set_xlim(0, 1.08)
    axis.set_xlabel("average precision; beside it, pictures of the class")
    save_figure(figure, path)


def draw_reliability(path: str | PathLike, bins: np.ndarray, calibration_error: float) -> None:
    """Writes a PNG of the share that was right by confidence, and of how many times each confidence occurs."""
    confidence, accuracy, counts = bins.T
    used = counts > 0
    figure, (upper, lower) = new_figure(2, 1, (5.5, 6), height_ratios=(3, 1), sharex=True)
    middles = (np.arange(BINS) + 0.5) / BINS
    upper.bar(middles[used], accuracy[used], width=0.9 / BINS, color="#4c78a8", label="share that was right")
    upper.plot(confidence[used], confidence[used], "o", color="#e45756", label="confidence")
    upper.plot([0, 1], [0, 1], "--", color="gray", linewidth=1)
    upper.set_ylabel("share that was right")
    upper.set_ylim(0, 1.02)
    upper.legend(loc="upper left")
    upper.set_title(f"expected calibration error {calibration_error:.2%}")
    lower.bar(middles, counts, width=0.9 / BINS, color="#9aa5b1")
    lower.set_xlabel("confidence")
    lower.set_ylabel("answers")
    lower.set_xlim(0, 1)
    save_figure(figure, path)


def try_to_draw(draw: Callable[..., None], path: str | PathLike, *arguments: Any, **keywords: Any) -> dict[str, str]:
    """Calls `draw(path, ...)`; a drawing that fails costs nothing but itself.

    Returns:
        Name of the file and why it is missing, which is then no file of an earlier drawing either; or nothing.
    """
    try:
        draw(path, *arguments, **keywords)
    except Exception as error:  # fonts and libraries of drawing fail in ways of their own
        with contextlib.suppress(OSError):
            Path(path).unlink(missing_ok=True)
        reason = next(iter(str(error).strip().splitlines()), "")
        return {Path(path).name: shown_name(f"{type(error).__name__}: {reason}", 200)}
    return {}


def _room_for(names: Sequence[str]) -> float:
    """Inches that the longest name takes beside a drawing, beyond what every figure has for names."""
    return 0.13 * max(0, max(map(len, names), default=0) - 10)


def new_figure(rows: int, columns: int, size: tuple[float, float], **subplots: Any) -> tuple[Any, Any]:
    """A figure and its axes, without pyplot: no window system is asked for, and no global state is left behind."""
    figure = require_library("matplotlib.figure", "train").Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, **subplots)


def save_figure(figure: Any, path: str | PathLike, *, dpi: int = 110) -> None:
    """Writes a figure as a PNG, whole or not at all, with every text as it is written: a `$` begins no mathematics.

    Names in scripts of which no font is installed become boxes.
    """
    text = require_library("matplotlib.text", "train").Text
    installed = set(require_library("matplotlib.font_manager", "train").get_font_names())
    fonts = ["DejaVu Sans", *(font for font in _FONTS_OF_MANY_SCRIPTS if font in installed)]
    for label in figure.findobj(text):
        label.set(fontfamily=fonts, parse_math=False, usetex=False)
    with atomic_write(path) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(unfinished, dpi=dpi, format="png")
