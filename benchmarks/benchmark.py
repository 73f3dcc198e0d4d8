"""Runs a benchmark: the runners do the same workloads in turns, and their outputs and times are compared."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from benchmarks.data import write_data
from benchmarks.environment import describe_environment
from benchmarks.process import RunnerError, RunnerProcess
from benchmarks.results import TOLERANCES, Row, read_rows, write_results
from benchmarks.runners import GEMM_PEAK, RUNNERS, Runner, select
from benchmarks.workload import Workload
from keras_crossvit._internal.checks import require_integer, require_known
from keras_crossvit._internal.errors import FileError, InvalidValueError
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.optional import require_library

# Idle threads, such as those of OpenBLAS, spin for some 30 ms before they sleep. The next runner's threads would be
# placed around them and keep those processors for the whole turn.
_PAUSE_SECONDS = 0.1


def run_benchmark(
    workloads: Sequence[Workload],
    folder: str | PathLike[str],
    *,
    runners: Sequence[str] | None = None,
    baseline: str | None = "timm-eager",
    repetitions: int = 15,
    steps_per_turn: int = 3,
) -> list[Row]:
    """Lets every runner do the same workloads in the same session, and compares their outputs and times.

    Each runner has a process of its own, so that its memory is separate and its backend its own choice. The runners
    take turns. A turn starts with a step that is not timed, which fills the caches. Results are written to
    `results.json`, `.csv`, `.md` and `.png` after each workload; the same call with the same folder resumes after an
    interrupt and measures only what is missing.

    Args:
        workloads: The workloads, as `plan` returns them.
        folder: Folder to write to.
        runners: Names of runners. Defaults to None: all that are installed and support some of the workloads.
        baseline: Runner that the others' times are divided by, if it takes part. Defaults to "timm-eager".
        repetitions: Turns of each runner. Defaults to 15.
        steps_per_turn: Timed steps per turn. Defaults to 3.

    Returns:
        A row per workload and runner. A runner that failed, or whose output differs from the first runner's, has a
        `problem` and no times.

    Raises:
        InvalidValueError: a runner is unknown or supports none of the workloads; or the folder has results of another
            machine, of other versions, or of other runners for the same workload.
        MissingLibraryError: matplotlib or a library of a named runner is not installed.
        FileError: the folder cannot be written.
    """
    require_integer("repetitions", repetitions, minimum=1)
    require_integer("steps_per_turn", steps_per_turn, minimum=1)
    if baseline is not None:
        require_known("runner", baseline, RUNNERS)
    selected = select(runners, workloads)
    require_library("matplotlib", "benchmark")
    folder, environment = Path(folder), describe_environment()
    rows = read_rows(folder, environment)
    missing = {each: found for each in workloads if (found := _missing_runners(each, selected, rows, folder))}
    _require_writable(folder)
    if not missing:
        logger.info("'%s' has all of these results; use another --output to measure again.", folder)
        write_results(folder, rows, environment, baseline)  # an interrupt may have left old tables
    for number, (workload, able) in enumerate(missing.items(), start=1):
        logger.info("[%d/%d] %s", number, len(missing), workload.describe())
        rows = [row for row in rows if row.workload != workload]
        rows += _measure(workload, able, repetitions, steps_per_turn)
        write_results(folder, rows, environment, baseline)
    return [row for row in rows if row.workload in set(workloads)]


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise FileError(f"'{folder}' cannot be written ({error.strerror}); use another --output.") from error


def _missing_runners(workload: Workload, selected: Sequence[Runner], rows: Sequence[Row], folder: Path) -> list[Runner]:
    """Returns the runners to measure for a workload, or none if the folder has results of all of them."""
    done = {row.runner for row in rows if row.workload == workload}
    able = [runner for runner in selected if runner.supports(workload)]
    names = {runner.name for runner in able}
    if names <= done:
        return []
    if done - names:
        raise InvalidValueError(
            f"'{folder}' has results of {', '.join(sorted(done - names))} for {workload.describe()}, and only runners "
            "of the same session are compared. Name those runners too, or use another --output."
        )
    return able


def _measure(workload: Workload, runners: Sequence[Runner], repetitions: int, steps_per_turn: int) -> list[Row]:
    if GEMM_PEAK.supports(workload):
        runners = [GEMM_PEAK, *runners]
    processes, problems = [], {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        write_data(workload, folder)
        for runner in runners:
            try:
                process = RunnerProcess(runner, workload, folder)
            except RunnerError as error:
                problems[runner.name] = str(error)
                logger.warning("    %s failed: %s", runner.name, error)
                continue
            stack.callback(process.kill)
            processes.append(process)
            logger.info("    %s: first step after %.1f s", runner.name, process.first_step_seconds)
        seconds = _take_turns(processes, problems, repetitions, steps_per_turn)
        processes = [process for process in processes if process.runner.name not in problems]
        gemm_peak = next(
            (each.macs / min(seconds[GEMM_PEAK.name]) / 1e9 for each in processes if each.runner is GEMM_PEAK), None
        )
        reference = next((each.output for each in processes if each.output is not None), None)
        rows = [_row(workload, each, seconds[each.runner.name], reference, gemm_peak) for each in processes]
    rows += [Row(workload=workload, runner=name, problem=problem) for name, problem in problems.items()]
    return [row for row in rows if row.runner != GEMM_PEAK.name]


def _take_turns(
    processes: Sequence[RunnerProcess], problems: dict[str, str], repetitions: int, steps_per_turn: int
) -> dict[str, list[float]]:
    """Returns the seconds of each runner's steps; a runner that fails is added to `problems`."""
    seconds: dict[str, list[float]] = {process.runner.name: [] for process in processes}
    for turn in range(1, repetitions + 1):
        for process in processes:
            name = process.runner.name
            if name in problems:
                continue
            time.sleep(_PAUSE_SECONDS)
            try:
                seconds[name] += process.time_steps(steps_per_turn)
            except RunnerError as error:
                problems[name] = str(error)
        print(f"\r    turn {turn} of {repetitions}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return seconds


def _row(
    workload: Workload,
    process: RunnerProcess,
    seconds: Sequence[float],
    reference: np.ndarray | None,
    gemm_peak: float | None,
) -> Row:
    row = Row(workload=workload, runner=process.runner.name)
    try:
        peak_bytes = process.finish()
    except RunnerError as error:
        return dataclasses.replace(row, problem=str(error))
    if reference is not None and process.output is not None:
        difference = np.linalg.norm(process.output - reference) / np.linalg.norm(reference)
        row, tolerance = dataclasses.replace(row, relative_rms=float(difference)), TOLERANCES[workload.precision]
        if not difference <= tolerance:
            problem = f"its output differs by {difference:.2g}, more than {tolerance:g}"
            return dataclasses.replace(row, problem=problem)
    return dataclasses.replace(
        row,
        seconds=tuple(seconds),
        first_step_seconds=process.first_step_seconds,
        peak_bytes=peak_bytes,
        gemm_peak=gemm_peak,
    )
