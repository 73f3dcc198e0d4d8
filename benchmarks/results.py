"""Stores, prints and plots the results of a benchmark."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workload import Workload
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.figures import new_figure, save_figure, try_to_draw
from keras_crossvit._internal.files import write_table, write_text
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.stored_json import OrNone, read_json
from keras_crossvit._internal.user_text import one_line, shown_name
from keras_crossvit.models.variants import get_variant

# Largest relative RMS difference of a runner's output from the first runner's. In float32, sums are only rounded in
# another order; in bfloat16 and int8 every product is rounded, and the weights are random.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.1, "int8": 0.1}
_WORKLOAD = {"mode": str, "model": str, "batch_size": int, "precision": str, "threads": int, "image_size": OrNone(int)}
_ROW = {
    "workload": _WORKLOAD,
    "runner": str,
    "seconds": [float],
    "first_step_seconds": OrNone(float),
    "peak_bytes": OrNone(int),
    "relative_rms": OrNone(float),
    "gemm_peak": OrNone(float),
    "problem": OrNone(str),
}
_FORM = {"machine": str, "versions": str, "rows": [_ROW]}
# What the horizontal axis of the plot may be: the first of these that varies.
_AXES = {
    "batch_size": "batch size",
    "image_size": "size of the small-patch image in pixels",
    "threads": "threads",
    "model": "parameters of the model in millions",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """The result of a runner for a workload.

    Args:
        workload: The workload.
        runner: Name of the runner.
        seconds: Seconds of each timed step; empty if the runner failed.
        first_step_seconds: Seconds from the start of the preparation to the end of the first step.
        peak_bytes: Peak memory of the process, or of the GPU if it uses one.
        relative_rms: RMS difference of its output from the first runner's, divided by the RMS of that.
        gemm_peak: Billions of multiply-accumulates per second of a matrix product in the same session.
        problem: Why there is no result, or None.
    """

    workload: Workload
    runner: str
    seconds: tuple[float, ...] = ()
    first_step_seconds: float | None = None
    peak_bytes: int | None = None
    relative_rms: float | None = None
    gemm_peak: float | None = None
    problem: str | None = None

    @property
    def milliseconds(self) -> float:
        """Median time of a step; NaN if there is none."""
        return self.quantile(0.5)

    def quantile(self, fraction: float) -> float:
        """Returns a quantile of the steps' times in milliseconds; NaN if there are none."""
        return 1e3 * float(np.quantile(self.seconds, fraction)) if self.seconds else float("nan")

    @property
    def milliseconds_at_gemm_peak(self) -> float | None:
        """Time of a step if the model's operations ran at the rate of the matrix product."""
        return self.workload.macs / self.gemm_peak / 1e6 if self.workload.macs and self.gemm_peak else None


def read_rows(folder: Path, environment: dict[str, Any]) -> list[Row]:
    """Returns the rows of an earlier session in the folder.

    Raises:
        InvalidValueError: they are of another machine or of other versions, or the file has no results.
    """
    path = folder / "results.json"
    if not path.is_file():
        return []
    try:
        stored = read_json(path, _FORM, "use another --output")
        rows = [
            Row(**{**row, "workload": Workload(**row["workload"]), "seconds": tuple(row["seconds"])})
            for row in stored["rows"]
        ]
        origin = {name: stored[name] for name in ("machine", "versions")}
    except TypeError as error:  # of an unknown field
        raise InvalidValueError(f"'{path}' has no results of a benchmark; use another --output.") from error
    for name, found in origin.items():
        if found != environment[name]:
            raise InvalidValueError(f"'{folder}' has results of other {name} ({found}); use another --output.")
    return rows


def write_results(folder: Path, rows: Sequence[Row], environment: dict[str, Any], baseline: str | None) -> None:
    """Writes `results.json`, from which a session resumes, then `.csv`, `.md` and, if a runner has times, `.png`."""
    contents = {**environment, "baseline": baseline, "rows": [dataclasses.asdict(row) for row in rows]}
    write_text(folder / "results.json", json.dumps(contents, indent=1))
    write_table(folder / "results.csv", to_table(rows, baseline))
    heading = "  \n".join(f"{key}: {value}" for key, value in environment.items())
    write_text(folder / "results.md", f"{heading}\n\n{to_markdown(rows, baseline)}")
    if any(row.seconds for row in rows):
        for name, reason in try_to_draw(plot, folder / "results.png", rows).items():
            logger.warning("'%s' could not be drawn (%s).", name, reason)


def to_table(rows: Sequence[Row], baseline: str | None) -> list[dict[str, Any]]:
    """Returns a flat mapping per row; values that do not exist are None.

    The ratio is to the baseline's time for the same workload, or to its float32 time if it lacks the precision.
    """
    times: dict[Any, float] = {(row.workload, row.runner): row.milliseconds for row in rows if row.seconds}
    table = []
    for row in rows:
        in_float32 = dataclasses.replace(row.workload, precision="float32")
        expected = times.get((row.workload, baseline)) or times.get((in_float32, baseline)) or float("nan")
        time, macs = row.milliseconds, row.workload.macs
        line = {
            **dataclasses.asdict(row.workload),
            "runner": row.runner,
            "milliseconds": round(time, 2),
            "lower_quartile": round(row.quantile(0.25), 2),
            "upper_quartile": round(row.quantile(0.75), 2),
            "milliseconds_per_image": round(time / row.workload.num_images, 2),
            "ratio_to_baseline": round(time / expected, 3),
            "gmacs": macs and round(macs / 1e9, 3),
            "fraction_of_gemm_peak": row.milliseconds_at_gemm_peak and round(row.milliseconds_at_gemm_peak / time, 3),
            "peak_megabytes": row.peak_bytes and round(row.peak_bytes / 1e6),
            "first_step_seconds": row.first_step_seconds and round(row.first_step_seconds, 1),
            "relative_rms": row.relative_rms and float(f"{row.relative_rms:.2g}"),
            "problem": row.problem,
        }
        table.append({key: None if value != value else value for key, value in line.items()})  # NaN: no value
    return table


def to_markdown(rows: Sequence[Row], baseline: str | None) -> str:
    """Returns a Markdown table per workload, the fastest runner first and those without a result last."""
    text = []
    table = to_table(rows, baseline)
    has_baseline = {row.workload for row in rows if row.runner == baseline and row.seconds}
    for workload in dict.fromkeys(row.workload for row in rows):
        in_float32 = "" if workload.precision == "float32" or workload in has_baseline else " in float32"
        text += [
            f"**{workload.describe()}**",
            "",
            f"| runner | ms, median (quartiles) | ratio to {baseline}{in_float32} | GEMM peak | MB | relative RMS |",
            "|---|---|---|---|---|---|",
        ]
        lines = [line for row, line in zip(rows, table, strict=True) if row.workload == workload]
        text += map(_markdown_line, sorted(lines, key=lambda line: line["milliseconds"] or float("inf")))
        text.append("")
    return "\n".join(text)


def _markdown_line(line: dict[str, Any]) -> str:
    runner = _markdown_text(line["runner"])
    if line["problem"]:
        return f"| {runner} | no result: {_markdown_text(line['problem'])} | | | | |"
    cells = (
        runner,
        f"{line['milliseconds']:,.1f} ({line['lower_quartile']:,.1f} to {line['upper_quartile']:,.1f})",
        "" if line["ratio_to_baseline"] is None else f"{line['ratio_to_baseline']:.2f}",
        "" if line["fraction_of_gemm_peak"] is None else f"{line['fraction_of_gemm_peak']:.0%}",
        "" if line["peak_megabytes"] is None else f"{line['peak_megabytes']:,}",
        "" if line["relative_rms"] is None else f"{line['relative_rms']:.1e}",
    )
    return f"| {' | '.join(cells)} |"


def _markdown_text(text: str) -> str:
    return one_line(text).replace("|", "\\|")


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Plots the time per image and the peak memory of every runner.

    The horizontal axis is the first of batch size, image size, threads and model that varies; every combination of the
    others has its own panel. A dotted line is the time at the rate of the matrix product.
    """
    rows = [row for row in rows if row.seconds]
    axis = next((each for each in _AXES if len({_position(row, each) for row in rows}) > 1), "batch_size")
    panels: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: _position(row, axis)):
        panels.setdefault(row.workload.describe(without=axis), []).append(row)
    colors = {name: f"C{number % 10}" for number, name in enumerate(dict.fromkeys(row.runner for row in rows))}
    figure, grid = new_figure(len(panels), 2, (11, 3.6 * len(panels)), squeeze=False)
    for (time, memory), (title, panel) in zip(grid, panels.items(), strict=True):
        limits = {
            _position(row, axis): at / row.workload.num_images for row in panel if (at := row.milliseconds_at_gemm_peak)
        }
        style: dict[str, Any] = {"color": "black", "linestyle": ":", "label": "GEMM peak"}
        if len(limits) == 1:  # a line through one point would be invisible
            time.axhline(*limits.values(), **style)
        elif limits:
            time.plot(list(limits), list(limits.values()), **style)
        for number, (name, color) in enumerate(colors.items()):
            own = [row for row in panel if row.runner == name]
            positions = [_position(row, axis) for row in own]
            style = {
                "label": shown_name(name, 60),
                "color": color,
                "marker": "os^Dv"[number // 10 % 5],
                "markersize": 4,
            }
            time.plot(positions, [row.milliseconds / row.workload.num_images for row in own], **style)
            memory.plot(positions, [(row.peak_bytes or 0) / 1e6 for row in own], **style)
        ticks = {_position(row, axis): _tick_label(row, axis) for row in panel}
        for axes, quantity in ((time, "ms per image"), (memory, "peak memory, MB")):
            axes.set_title(f"{quantity}\n{one_line(title)}", fontsize=9, loc="left")
            axes.set_xlabel(_AXES[axis], fontsize=9)
            axes.set_xscale("log", base=2)
            slant = {"rotation": 40, "ha": "right"} if axis == "model" else {}
            axes.set_xticks(list(ticks), list(ticks.values()), **slant)
            axes.xaxis.minorticks_off()
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    save_figure(figure, path, dpi=130)


def _position(row: Row, axis: str) -> float:
    if axis == "model":
        return get_variant(row.workload.model).parameters / 1e6
    if axis == "image_size":
        return row.workload.config.image_sizes[0][0]
    return getattr(row.workload, axis)


def _tick_label(row: Row, axis: str) -> str:
    value = f"{_position(row, axis):.3g}"
    return f"{row.workload.model.removeprefix('crossvit_')}, {value}" if axis == "model" else value
