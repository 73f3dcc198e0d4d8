"""The process of a runner, started by `RunnerProcess`: `python -m benchmarks.worker FILE_DESCRIPTOR`.

A runner's class takes the workload, the folder of its data and the runner's options, and has

- `step()`, which does the workload once and returns the logits or the loss as an array, or None;
- optionally `peak_bytes()`, the peak memory of a GPU, or 0 if none is used;
- optionally `macs`, the multiply-accumulates per step;
- optionally a static `convert` of the same arguments, which is called first in a process of its own, so that a
  converter's memory is not measured.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import resource
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def main(descriptor: str) -> None:
    """Does a first step, then as many as the other end of the connection asks for, until it asks for None."""
    connection = Connection(int(descriptor))
    runner, workload, folder = connection.recv()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: workload.threads])
    try:
        started = time.perf_counter()
        runner_class = runner.import_class(workload.mode)
        if hasattr(runner_class, "convert"):
            with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                pool.submit(runner_class.convert, workload, folder, **runner.options).result()
        stepper = runner_class(workload, folder, **runner.options)
        output = stepper.step()
        connection.send((time.perf_counter() - started, output, getattr(stepper, "macs", None)))
        while (number := connection.recv()) is not None:
            connection.send([_timed_step(stepper) for _ in range(number)])
        connection.send(_peak_bytes(stepper))
    except Exception as error:  # a runner may raise anything; the benchmark reports it and continues with the others
        connection.send(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")


def _timed_step(stepper: Any) -> float:
    started = time.perf_counter()
    stepper.step()
    return time.perf_counter() - started


def _peak_bytes(stepper: Any) -> int:
    if hasattr(stepper, "peak_bytes") and (peak := stepper.peak_bytes()):
        return peak
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would include the memory of the parent at the fork
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
