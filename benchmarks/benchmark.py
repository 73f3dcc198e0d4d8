"""Goes through the work, the contenders taking turns, and writes what it found after each piece."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from benchmarks.data import write_data, write_images
from benchmarks.environment import describe_environment
from benchmarks.operations import count_macs
from benchmarks.plot import draw_results
from benchmarks.process import Process, RunnerError
from benchmarks.results import AGREEMENT, Row, markdown, read_rows, write_results
from benchmarks.runners import RUNNERS, Runner, select
from benchmarks.workload import Workload
from keras_crossvit._internal.checks import require_integer, require_known
from keras_crossvit._internal.errors import FileError, InvalidValueError
from keras_crossvit._internal.optional import require_library
from keras_crossvit.evaluation.plots import try_to_draw
from keras_crossvit.exporting.exporter import relative_rms

_TRAINING_FACTOR = 3  # one multiplication forward, two backward
# Threads of the contender before, as those of OpenBLAS, spin for some 30 ms in wait of more; beside them the next one's
# threads would begin on one processor, and stay there for the whole turn.
_REST_SECONDS = 0.1
_GEMM_PEAK = Runner(name="matrix-product", module="ceiling_contender", modes=())


def run_benchmark(
    work: Sequence[Workload],
    folder: str | PathLike,
    *,
    runners: Sequence[str] | None = None,
    peer: str | None = "timm-eager",
    repetitions: int = 15,
    steps_per_turn: int = 3,
) -> list[Row]:
    """Lets every contender do the same work in the same run, and compares their answers and times.

    Each contender lives in a process of its own, which keeps its memory apart and lets it choose its backend. They take
    turns, with a short rest between; in each turn a contender does one step that is not counted, which brings its data
    back into the caches, and `steps_per_turn` that are. Results go to `results.json`, `.csv`, `.md` and `.png` in the
    folder after each piece of work; the same call on the same folder goes on after an interrupt, and measures only what
    is not there yet.

    Args:
        work: The pieces of work, such as `plan` makes them.
        folder: Folder to write to.
        runners: Names of contenders. Defaults to None: all that are installed and can do the work.
        peer: Contender that the ratios are to, if it takes part. Defaults to "timm-eager".
        repetitions: Turns of each contender. Defaults to 15.
        steps_per_turn: Counted steps of a turn. Defaults to 3.

    Returns:
        A row per contender and piece of work. A contender that failed, or whose answer differs from the first one's,
        has a `problem` and no time.

    Raises:
        ValueError: a contender is unknown, or none can do the work; or the folder has results of another machine, of
            other versions, or of other contenders for the same work.
        ModuleNotFoundError: a contender that was named, or matplotlib, is not installed.
        OSError: the folder cannot be written.
    """
    require_integer("repetitions", repetitions, minimum=1)
    require_integer("steps_per_turn", steps_per_turn, minimum=1)
    if peer is not None:
        require_known("runner", peer, RUNNERS)
    chosen = select(runners, work)
    require_library("matplotlib", "benchmark")
    # Here and in the contenders' processes: JAX would reserve most of a card that they share.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    folder = Path(folder)
    environment = describe_environment()
    rows = read_rows(folder, environment)
    open_workloads = {workload: each for workload in work if (each := _open_runners(workload, chosen, rows, folder))}
    if not open_workloads:
        print(f"All of it is in '{folder}'; give another --output to measure anew.", file=sys.stderr)
    else:
        _require_writable(folder)
    for number, (workload, taking_part) in enumerate(open_workloads.items(), start=1):
        print(f"[{number}/{len(open_workloads)}] {workload.describe()}", file=sys.stderr, flush=True)
        rows = [row for row in rows if row.work != workload]
        rows += _measure(workload, taking_part, repetitions, steps_per_turn)
        for name, why in try_to_draw(draw_results, folder / "results.png", rows).items():
            print(f"'{name}' could not be drawn ({why}).", file=sys.stderr)
        write_results(folder, rows, environment, peer)
    rows = [row for row in rows if row.work in set(work)]
    print(markdown(rows, peer))
    return rows


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise FileError(f"'{folder}' cannot hold results ({error.strerror}); give another --output.") from error


def _open_runners(work: Workload, chosen: Sequence[Runner], rows: Sequence[Row], folder: Path) -> list[Runner]:
    """Those that take part in a piece of work that has to be measured; none if all of them are done."""
    done = {row.runner for row in rows if row.work == work}
    taking_part = [each for each in chosen if each.supports(work)]
    names = {each.name for each in taking_part}
    if names <= done:
        return []
    if done - names:
        raise InvalidValueError(
            f"'{folder}' has results of {', '.join(sorted(done - names))} for {work.describe()}, and contenders are "
            "compared within a run alone; name those too, or give another --output."
        )
    return taking_part


def _measure(work: Workload, runners: Sequence[Runner], repetitions: int, steps_per_turn: int) -> list[Row]:
    rows, processes = [], []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name, contextlib.ExitStack() as running:
        folder = Path(name)
        if work.mode == "pipeline":
            write_images(folder / "images")
        elif work.mode != "import":
            write_data(work, folder)
        for runner in (_GEMM_PEAK, *runners):
            print(f"    {runner.name} ...", end="", file=sys.stderr, flush=True)
            try:
                process = Process(runner, work, folder)
            except RunnerError as error:
                print(f" {error}", file=sys.stderr)
                rows.append(Row(work=work, runner=runner.name, problem=str(error)))
                continue
            print(f" ready after {process.first_step_seconds:.1f} s", file=sys.stderr)
            running.callback(process.kill)
            processes.append(process)
        times, problems = _take_turns(processes, repetitions, steps_per_turn)
        rows += [Row(work=work, runner=name, problem=problem) for name, problem in problems.items()]
        processes = [process for process in processes if process.runner.name not in problems]
        gemm_peak = None
        if processes and processes[0].runner is _GEMM_PEAK:
            first = processes.pop(0)
            gemm_peak = first.macs / min(times[_GEMM_PEAK.name]) / 1e9
        reference = next((process.answer for process in processes if process.answer), None)
        rows += [_row(work, each, times[each.runner.name], reference, gemm_peak) for each in processes]
    return [row for row in rows if row.runner != _GEMM_PEAK.name]


def _take_turns(
    processes: Sequence[Process], repetitions: int, steps_per_turn: int
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of each contender's steps, and what went wrong with those that could not go on."""
    times, problems = {process.runner.name: [] for process in processes}, {}
    for turn in range(1, repetitions + 1):
        for process in processes:
            name = process.runner.name
            if name in problems:
                continue
            time.sleep(_REST_SECONDS)
            try:
                times[name] += process.steps(1 + steps_per_turn)[1:]
            except RunnerError as error:
                problems[name] = str(error)
        print(f"\r    turn {turn} of {repetitions}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return times, problems


def _row(
    work: Workload, process: Process, seconds: Sequence[float], reference: Path | None, gemm_peak: float | None
) -> Row:
    try:
        peak_bytes = process.finish()
    except RunnerError as error:
        return Row(work=work, runner=process.runner.name, problem=str(error))
    difference = None
    if process.answer is not None and reference is not None:
        difference = relative_rms(np.load(process.answer), np.load(reference))
    factor = {"inference": 1, "training": _TRAINING_FACTOR}.get(work.mode)
    row = Row(
        work=work,
        runner=process.runner.name,
        seconds=tuple(seconds),
        first_step_seconds=process.first_step_seconds,
        peak_bytes=peak_bytes,
        difference=difference,
        gmacs=factor and factor * work.batch_size * count_macs(work.config) / 1e9,
        gemm_peak=gemm_peak,
    )
    tolerance = AGREEMENT[work.precision]
    if difference is None or difference <= tolerance:
        return row
    problem = f"its answer is off by {difference:.2g}, more than {tolerance:g}"
    return Row(work=work, runner=row.runner, difference=difference, problem=problem)
