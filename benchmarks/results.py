"""What a benchmark found: a row per contender and piece of work, and tables of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workload import Workload
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.files import write_table, write_text

# Largest relative rms difference of the answers from the first contender's. A contender beyond it did other work.
# Rounding in another order is what float32 leaves; the halves and int8 round every product of drawn weights.
AGREEMENT = {"float32": 1e-4, "bfloat16": 0.1, "int8": 0.1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """How one contender did one piece of work.

    Args:
        work: The work.
        runner: The contender's name.
        seconds: Each repetition's time, or nothing where the contender failed.
        first_step_seconds: Time from the start of preparing to the end of the first step.
        peak_bytes: Peak memory of the process, or of the accelerator.
        difference: Relative rms difference of its answer from the first contender's, or None where there is none.
        gmacs: Billions of multiply-accumulates of a step, or None where they are not counted.
        gemm_peak: Billions of multiply-accumulates a second of a plain matrix product in the same run.
        problem: Why there is no result, or None.
    """

    work: Workload
    runner: str
    seconds: tuple[float, ...] = ()
    first_step_seconds: float | None = None
    peak_bytes: int | None = None
    difference: float | None = None
    gmacs: float | None = None
    gemm_peak: float | None = None
    problem: str | None = None

    @property
    def milliseconds(self) -> float | None:
        """Median time of a step."""
        return 1e3 * float(np.median(self.seconds)) if self.seconds else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """Quartiles of the time of a step, in milliseconds."""
        return tuple(1e3 * float(each) for each in np.percentile(self.seconds, [25, 75])) if self.seconds else None

    @property
    def fraction_of_gemm_peak(self) -> float | None:
        """Share of the matrix-product rate that the model's multiplications reached."""
        if not (self.seconds and self.gmacs and self.gemm_peak):
            return None
        return self.gmacs / float(np.median(self.seconds)) / self.gemm_peak

    def to_json(self) -> dict[str, Any]:
        """The row as a mapping that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Row:
        """The row that `to_json` made."""
        return cls(**{**row, "work": Workload(**row["work"]), "seconds": tuple(row["seconds"])})


def columns_of(rows: Sequence[Row], peer: str | None) -> list[dict[str, Any]]:
    """The rows as mappings of plain values, with the ratio of each to the peer at the same work.

    Where the peer has no result in a row's precision, the ratio is to its float32.

    Args:
        rows: The rows.
        peer: Contender that the others are compared with, or None.

    Returns:
        A mapping per row; values that do not exist are None.
    """
    peers = {row.work: row.milliseconds for row in rows if row.runner == peer}
    table = []
    for row in rows:
        in_float32 = dataclasses.replace(row.work, precision="float32")  # where the peer has no such precision
        theirs, spread, images = peers.get(row.work) or peers.get(in_float32), row.spread, row.work.images
        table.append(
            {
                **dataclasses.asdict(row.work),
                "runner": row.runner,
                "milliseconds": _rounded(row.milliseconds),
                "lower_quartile": _rounded(spread and spread[0]),
                "upper_quartile": _rounded(spread and spread[1]),
                "milliseconds_per_picture": _rounded(row.milliseconds and images and row.milliseconds / images),
                "ratio_to_peer": _rounded(row.milliseconds and theirs and row.milliseconds / theirs, 3),
                "gmacs": _rounded(row.gmacs, 3),
                "fraction_of_gemm_peak": _rounded(row.fraction_of_gemm_peak, 3),
                "peak_megabytes": row.peak_bytes and round(row.peak_bytes / 1e6),
                "first_step_seconds": _rounded(row.first_step_seconds, 1),
                "difference": row.difference and float(f"{row.difference:.2g}"),
                "problem": row.problem,
            }
        )
    return table


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return round(value, digits) if value else None


def markdown(rows: Sequence[Row], peer: str | None) -> str:
    """A table for each piece of work, the quickest first, those without a result last."""
    text, table = [], columns_of(rows, peer)
    for work in dict.fromkeys(row.work for row in rows):
        lines = [line for row, line in zip(rows, table, strict=True) if row.work == work]
        lines.sort(key=lambda line: line["milliseconds"] or float("inf"))
        text += [
            f"**{work.describe()}**",
            "",
            f"| contender | ms (quartiles) | ratio to {_compared_with(work, rows, peer)} | ceiling | MB | off by |",
        ]
        text += ["|---|---|---|---|---|---|", *map(_markdown_line, lines), ""]
    return "\n".join(text)


def _compared_with(work: Workload, rows: Sequence[Row], peer: str | None) -> str | None:
    has_time = any(row.seconds for row in rows if row.work == work and row.runner == peer)
    return peer if has_time or work.precision == "float32" else f"{peer} in float32"


def _markdown_line(line: dict[str, Any]) -> str:
    if line["problem"]:
        return f"| {line['contender']} | no result: {line['problem']} | | | | |"
    time = f"{line['milliseconds']:.1f} ({line['lower_quartile']:.1f} to {line['upper_quartile']:.1f})"
    cells = (
        time,
        "" if line["ratio_to_peer"] is None else f"{line['ratio_to_peer']:.2f}",
        "" if line["fraction_of_gemm_peak"] is None else f"{line['fraction_of_gemm_peak']:.0%}",
        line["peak_megabytes"] or "",
        "" if line["difference"] is None else f"{line['difference']:.1e}",
    )
    return f"| {line['contender']} | {' | '.join(map(str, cells))} |"


def write_results(folder: Path, rows: Sequence[Row], environment: dict[str, Any], peer: str | None) -> None:
    """Writes `results.json`, `results.csv` and `results.md`, each whole or not at all."""
    write_table(folder / "results.csv", columns_of(rows, peer))
    heading = "  \n".join(f"{key}: {value}" for key, value in environment.items())
    write_text(folder / "results.md", f"{heading}\n\n{markdown(rows, peer)}")
    contents = {**environment, "peer": peer, "rows": [row.to_json() for row in rows]}
    # Last, since what it holds is not measured again: an interrupt before it leaves nothing that is never made good.
    write_text(folder / "results.json", json.dumps(contents, indent=1))


def read_rows(folder: Path, environment: dict[str, Any]) -> list[Row]:
    """Rows of an earlier run in this folder.

    Raises:
        ValueError: they are of another machine or of other versions, or no results of a benchmark.
    """
    path = folder / "results.json"
    if not path.is_file():
        return []
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        rows = [Row.from_json(row) for row in stored["rows"]]
        origin = {name: stored[name] for name in ("machine", "versions")}
    except (KeyError, TypeError, ValueError):
        raise InvalidValueError(f"'{path}' holds no results of a benchmark; give another --output.") from None
    for name, found in origin.items():
        if found != environment[name]:
            raise InvalidValueError(
                f"'{folder}' has results of other {name} ({found}); give another --output for these."
            )
    return rows
