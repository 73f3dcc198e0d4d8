"""Time per picture as curves, one per contender."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Row
from keras_crossvit.evaluation.plots import new_figure, save_figure
from keras_crossvit.models.variants import get_variant

# What may vary along the horizontal axis, in the order in which one is looked for.
_AXES = {
    "batch_size": "batch size",
    "image_size": "side of the small-patch image in pixels",
    "threads": "threads",
    "model": "parameters of the model in millions",
}


def draw_results(path: Path, rows: Sequence[Row]) -> None:
    """Draws milliseconds per picture (or per step, where a step has no pictures) and peak memory.

    The horizontal axis is the first of batch size, image size, threads and model size that varies; every combination
    of the rest has a panel of its own. A dotted line is the time that the model's multiplications would take at the
    rate of a plain matrix product.

    Args:
        path: File to write, whole or not at all.
        rows: Results; those without a time are left out.
    """
    rows = [row for row in rows if row.seconds]
    if not rows:
        return
    axis = next((each for each in _AXES if len({_value(row, each) for row in rows}) > 1), "batch_size")
    panels = list(dict.fromkeys(_panel(row, axis) for row in rows))
    names = list(dict.fromkeys(row.runner for row in rows))
    figure, pairs = new_figure(len(panels), 2, (11, 3.6 * len(panels)), squeeze=False)
    for (time, memory), panel in zip(pairs, panels, strict=True):
        floor = {_value(row, axis): _floor(row) for row in rows if _panel(row, axis) == panel and _floor(row)}
        points = sorted(floor)
        if floor:
            times = [floor[point] for point in points]
            style = {"color": "black", "linestyle": ":", "label": "matrix products alone"}
            # A line of one point would be invisible.
            time.axhline(times[0], **style) if len(points) == 1 else time.plot(points, times, **style)
        for number, name in enumerate(names):
            own = sorted((row for row in rows if row.runner == name and _panel(row, axis) == panel), key=_at(axis))
            style = {"label": name, "color": f"C{number % 10}", "marker": "os^Dv"[number // 10 % 5], "markersize": 4}
            points = [_value(row, axis) for row in own]
            time.plot(points, [_per_image(row, row.milliseconds) for row in own], **style)
            memory.plot(points, [row.peak_bytes / 1e6 for row in own], **style)
        step = "ms per picture" if any(row.work.images for row in rows if _panel(row, axis) == panel) else "ms"
        measured = {_value(row, axis): _label(row, axis) for row in rows if _panel(row, axis) == panel}
        for axes, title in ((time, step), (memory, "peak memory, MB")):
            _dress(axes, title, axis, panel, measured)
    figure.legend(*pairs[0][0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    save_figure(figure, path, dpi=130)


def _dress(axes: Any, title: str, axis: str, panel: str, measured: dict[float, str]) -> None:
    axes.set_title(f"{title}\n{panel}", fontsize=9, loc="left")
    axes.set_xlabel(_AXES[axis], fontsize=9)
    axes.set_xscale("log", base=2)
    slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if axis == "model" else {}
    axes.set_xticks(list(measured), list(measured.values()), **slant)
    axes.tick_params(labelsize=8)
    axes.xaxis.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _floor(row: Row) -> float | None:
    return _per_image(row, 1e3 * row.gmacs / row.gemm_peak) if row.gmacs and row.gemm_peak else None


def _per_image(row: Row, milliseconds: float) -> float:
    return milliseconds / max(1, row.work.images)


def _value(row: Row, axis: str) -> float:
    if axis == "model":
        return get_variant(row.work.model).parameters / 1e6
    if axis == "image_size":
        return row.work.config.image_sizes[0][0]
    return getattr(row.work, axis)


def _label(row: Row, axis: str) -> str:
    """What stands below a measured point: models by their names too."""
    value = f"{_value(row, axis):.3g}"
    return f"{row.work.model.removeprefix('crossvit_')}, {value}" if axis == "model" else value


def _at(axis: str) -> Any:
    return lambda row: _value(row, axis)


def _panel(row: Row, axis: str) -> str:
    parts = {
        "mode": row.work.mode,
        "model": row.work.model,
        "image_size": f"{row.work.config.image_sizes[0][0]} pixels",
        "batch_size": f"batch {row.work.batch_size}",
        "precision": row.work.precision,
        "threads": row.work.describe_threads(),
    }
    return ", ".join(text for key, text in parts.items() if key != axis)
