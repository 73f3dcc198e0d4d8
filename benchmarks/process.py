"""Runs a runner in a process of its own: `RunnerProcess` starts it, `serve` runs there.

A runner's class takes the workload, the folder of its data and the runner's options, and has

- `step()`, which does the workload once and returns the logits or the loss as an array, or None;
- optionally `time_steps(number)`, which does a step and then `number` that are timed, and returns their seconds: for
  steps that do not wait for each other;
- optionally `peak_bytes()`, the peak memory of a GPU, or 0 if none is used;
- optionally `macs`, the multiply-accumulates per step;
- optionally a static `convert` of the same arguments, which is called first in yet another process, so that a
  converter's memory is not measured.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.runners import Runner
from benchmarks.workload import Workload
from keras_crossvit._internal.memory import peak_memory
from keras_crossvit.cli.environment import TENSORFLOW_SETTINGS

# JAX would reserve most of a GPU, which the runners share.
ENVIRONMENT = {**TENSORFLOW_SETTINGS, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class RunnerError(RuntimeError):
    """A runner failed; the benchmark continues with the others."""


class RunnerProcess:
    """Starts a runner and waits for its first step.

    Args:
        runner: The runner.
        workload: The workload.
        folder: Folder with the workload's data.

    Attributes:
        first_step_seconds: Seconds of preparation and first step.
        output: What the first step returned, logits or the loss, or None.
        macs: Multiply-accumulates per step, if the runner states them.

    Raises:
        RunnerError: the runner failed, here and in every method.
    """

    def __init__(self, runner: Runner, workload: Workload, folder: Path) -> None:
        self.runner = runner
        self._messages = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see kill
        self._connection, theirs = multiprocessing.Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
            env=_environment(runner, workload.threads),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._messages,
            stderr=self._messages,
            process_group=0,  # so that `kill` reaches a converter and a loader's workers too
        )
        theirs.close()
        try:
            self.first_step_seconds, self.output, self.macs = self._ask((runner, workload, folder))
        except BaseException:
            self.kill()
            raise

    def time_steps(self, number: int) -> list[float]:
        """Does a step, which fills the caches, then `number` that are timed, and returns the seconds of each."""
        return self._ask(number)

    def finish(self) -> int:
        """Ends the process and returns its peak memory in bytes."""
        peak_bytes = self._ask(None)
        self._process.wait()
        self.kill()
        return peak_bytes

    def kill(self) -> None:
        """Kills the process, if it is running, and those that it has started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()
        self._messages.close()

    def _ask(self, message: Any) -> Any:
        try:
            self._connection.send(message)
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            code = self._process.wait()
            self._messages.seek(0)
            lines = self._messages.read().strip().splitlines() or ["no message"]
            answer = f"The process ended with exit code {code}: {lines[-1]}"
        if isinstance(answer, str):
            self.kill()
            raise RunnerError(answer)
        return answer


def _environment(runner: Runner, threads: int) -> dict[str, str]:
    checkout = str(Path(__file__).parents[1])
    environment = {
        **ENVIRONMENT,
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [checkout, os.environ.get("PYTHONPATH")])),
        "OPENBLAS_NUM_THREADS": str(threads),  # NumPy's, which reads it at its import
    }
    if runner.backend:
        environment["KERAS_BACKEND"] = runner.backend
    return environment


def serve(descriptor: str) -> None:
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
            connection.send(_time_steps(stepper, number))
        connection.send(_peak_bytes(stepper))
    except Exception as error:  # a runner may raise anything; the benchmark reports it and continues with the others
        connection.send(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")


def _time_steps(stepper: Any, number: int) -> list[float]:
    if hasattr(stepper, "time_steps"):
        return stepper.time_steps(number)
    seconds = []
    for _ in range(1 + number):
        started = time.perf_counter()
        stepper.step()
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def _peak_bytes(stepper: Any) -> int:
    if hasattr(stepper, "peak_bytes") and (peak := stepper.peak_bytes()):
        return peak
    return peak_memory()


if __name__ == "__main__":
    serve(*sys.argv[1:])
