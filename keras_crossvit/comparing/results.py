"""Results of a comparison: a table, which file to take and why, a chart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from keras_crossvit._internal.figures import new_figure, save_figure, try_to_draw
from keras_crossvit._internal.files import write_text
from keras_crossvit._internal.user_text import one_line, shown_name

KERAS = "keras"  # name of the model itself
_MEGABYTE = 1e6
_LARGEST_DOT = 900.0  # area in points²


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured of one file. Fractions are of 1; values that do not exist are None.

    Args:
        name: Name of the format and precision, such as "litert-float16"; "keras" for the model itself; the path of a
            file that was given.
        path: The file, or None if there is none.
        top1: Fraction of images whose most probable class is correct.
        top5: Fraction of images whose class is among the five most probable; None for five classes or fewer.
        agreement: Fraction of images with the same most probable class as the model itself.
        calibration_error: Expected calibration error over 15 bins of confidence.
        latency_ms: Median time of one image in its runtime, in milliseconds, without reading it.
        latency_of_8_ms: The same for eight images at once; a file with batch size 1 computes them one by one.
        images_per_second: Speed from image files to logits.
        num_bytes: Size of all its files.
        peak_bytes: Peak memory of the process that read the images and ran the file.
        problem: Why there is no result, with the remedy, or None.
    """

    name: str
    path: str | None = None
    top1: float | None = None
    top5: float | None = None
    agreement: float | None = None
    calibration_error: float | None = None
    latency_ms: float | None = None
    latency_of_8_ms: float | None = None
    images_per_second: float | None = None
    num_bytes: int | None = None
    peak_bytes: int | None = None
    problem: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A model and its exports on the same images. Printed, it is a table with a recommendation.

    Args:
        model: Name of the model.
        images: Number of images.
        threads: Threads of every runtime.
        machine: The machine.
        max_loss: Largest accepted loss of top-1 accuracy, in percentage points.
        measurements: The model itself, and every file in the order of the formats.
    """

    model: str
    images: int
    threads: int
    machine: str
    max_loss: float
    measurements: tuple[Measurement, ...]

    @property
    def fastest(self) -> Measurement | None:
        """The file with the lowest latency of one image, of those within `max_loss` of the model; None without any."""
        return min(self._accepted(), key=lambda each: each.latency_ms or 0, default=None)

    @property
    def smallest(self) -> Measurement | None:
        """The smallest file of those within `max_loss` of the model, or None if there is none."""
        return min(self._accepted(), key=lambda each: (each.num_bytes or 0, each.latency_ms or 0), default=None)

    @property
    def least_top1(self) -> float:
        """The lowest accepted top-1 accuracy."""
        return (self.measurements[0].top1 or 0) - self.max_loss / 100

    @property
    def measured(self) -> list[Measurement]:
        """The measurements that have a result."""
        return [each for each in self.measurements if each.problem is None]

    @property
    def problems(self) -> list[Measurement]:
        """Those that have none."""
        return [each for each in self.measurements if each.problem is not None]

    def _accepted(self) -> list[Measurement]:
        # 1e-9: a loss of exactly `max_loss`, as fractions of images are rounded.
        return [each for each in self._files() if (each.top1 or 0) >= self.least_top1 - 1e-9]

    def _files(self) -> list[Measurement]:
        return [each for each in self.measured if each.name != KERAS]

    @property
    def recommendation(self) -> str:
        """Which file is the fastest and which the smallest within `max_loss`, and why, in a few sentences."""
        limit = f"within {self.max_loss:g} points of Keras' top-1 accuracy ({_percent(self.measurements[0].top1)})"
        lines = []
        if not self._accepted():
            files = self._files()
            best = max(files, key=lambda each: each.top1 or 0, default=None)
            reason = f"; the closest is {_described(best)}" if best else ""
            lines.append(f"No file is {limit}{reason}.")
        for kind, chosen, key in (
            ("Fastest", self.fastest, lambda each: each.latency_ms),
            ("Smallest", self.smallest, lambda each: each.num_bytes),
        ):
            if chosen is not None:
                lines.append(f"{kind} {limit}: {_described(chosen)}.{self._passed_over(kind, chosen, key)}")
        if self.images * self.max_loss < 100:
            lines.append(
                f"One of {self.images} images is {100 / self.images:.2g} points, more than {self.max_loss:g}: too few "
                "images to decide; use more."
            )
        return "\n".join(lines)

    def _passed_over(self, kind: str, chosen: Measurement, key: Callable[[Measurement], Any]) -> str:
        """Names the best file that loses too much accuracy, if it would have been chosen otherwise."""
        better = [each for each in self._files() if key(each) < key(chosen) and each not in self._accepted()]
        if not better:
            return ""
        found = min(better, key=key)
        lost = 100 * ((self.measurements[0].top1 or 0) - (found.top1 or 0))
        return f" {_shown(found)} is {kind.lower().replace('est', 'er')}, but loses {lost:.2f} points."

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields as JSON values, with the recommendation."""
        chosen = {"fastest": self.fastest and self.fastest.name, "smallest": self.smallest and self.smallest.name}
        return {**dataclasses.asdict(self), **chosen, "recommendation": self.recommendation}

    def to_markdown(self) -> str:
        """Returns the table, the recommendation and how it was measured as Markdown."""
        head, *rows = ([_markdown(cell) for cell in row] for row in self._table())
        lines = [f"# {_markdown(self.model)} on {self.images} images", ""]
        lines += [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
        lines += [f"\n{_markdown(line)}" for line in self.recommendation.splitlines()]
        lines += [f"\n{_markdown(_shown(each))}: {_markdown(each.problem or '')}" for each in self.problems]
        lines.append(f"\n{_markdown(self._conditions())}\n")
        return "\n".join(lines)

    def write(self, folder: str | PathLike) -> dict[str, str]:
        """Writes `comparison.md` and `comparison.png`, each atomically.

        Returns:
            File names of charts that could not be drawn, and why.
        """
        write_text(Path(folder) / "comparison.md", self.to_markdown())
        return try_to_draw(draw_comparison, Path(folder) / "comparison.png", self)

    def __str__(self) -> str:
        table = self._table()
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
            for row in table
        ]
        lines += [f"{_shown(each)}: {one_line(each.problem)}" for each in self.problems]
        return "\n".join([*lines, "", self.recommendation, self._conditions()])

    def _table(self) -> list[list[str]]:
        """Returns the header and a row per measurement that has a result."""
        columns: dict[str, Callable[[Measurement], str]] = {
            "file": _shown,
            "top-1": lambda each: _percent(each.top1),
            "top-5": lambda each: _percent(each.top5),
            "agrees": lambda each: _percent(each.agreement),
            "calibration error": lambda each: _percent(each.calibration_error),
            "ms": lambda each: _milliseconds(each.latency_ms),
            "ms for 8": lambda each: _milliseconds(each.latency_of_8_ms),
            "images/s": lambda each: f"{each.images_per_second:.1f}",
            "MB": lambda each: f"{(each.num_bytes or 0) / _MEGABYTE:.2f}",
            "memory, MB": lambda each: f"{(each.peak_bytes or 0) / _MEGABYTE:,.0f}",
        }
        return [list(columns), *([cell(each) for cell in columns.values()] for each in self.measured)]

    def _conditions(self) -> str:
        return (
            f"{self.model} on {self.images} images, {self.threads} threads, {self.machine}. 'agrees' is with the top-1 "
            "class of Keras; ms are medians of one image and of eight, without reading; images/s are from files."
        )


def draw_comparison(path: str | PathLike, comparison: Comparison) -> None:
    """Writes a PNG of top-1 accuracy over latency; the area of a dot is the size of the file."""
    measured = comparison.measured
    figure, axis = new_figure(1, 1, (9, 4.8))
    largest = max(each.num_bytes or 0 for each in measured)
    chosen = {"fastest": comparison.fastest, "smallest": comparison.smallest}
    for number, each in enumerate(measured):
        roles = [role for role, found in chosen.items() if found is each]
        label = f"{_shown(each)}, {(each.num_bytes or 0) / _MEGABYTE:.3g} MB{''.join(f', {role}' for role in roles)}"
        axis.scatter(
            [each.latency_ms],
            [100 * (each.top1 or 0)],
            s=_LARGEST_DOT * (each.num_bytes or 0) / largest,
            color=f"C{number % 10}",
            alpha=0.55,
            edgecolors="black" if roles else "none",
            linewidths=1.5,
            label=label,
            zorder=3 - (each.num_bytes or 0) / largest,  # small dots in front of large ones
        )
    axis.axhline(
        100 * comparison.least_top1, color="gray", linestyle="--", label=f"{comparison.max_loss:g} points below Keras"
    )
    axis.set_xlim(0, 1.1 * max(each.latency_ms or 0 for each in measured))
    axis.margins(y=0.25)
    axis.set_xlabel("latency of one image, ms")
    axis.set_ylabel("top-1 accuracy, %")
    axis.set_title(f"{shown_name(comparison.model, 60)} on {comparison.images} images", loc="left", fontsize=10)
    axis.grid(alpha=0.3)
    title = "area of a dot: size of the file"
    legend = figure.legend(loc="outside right upper", frameon=False, fontsize=8, title=title)
    for handle in legend.legend_handles[: len(measured)]:
        handle.set_sizes([40])
    save_figure(figure, path)


def _described(each: Measurement) -> str:
    return (
        f"{_shown(each)}, {_milliseconds(each.latency_ms)} ms, {(each.num_bytes or 0) / _MEGABYTE:.2f} MB, top-1 "
        f"{_percent(each.top1)}"
    )


def _shown(each: Measurement) -> str:
    return shown_name(each.name, 40)


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:.2%}"


def _milliseconds(value: float | None) -> str:
    return f"{value or 0:.{1 if (value or 0) >= 10 else 2}f}"


def _markdown(text: str) -> str:
    return one_line(text).replace("|", "\\|")
