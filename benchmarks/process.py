"""Starts the process of a runner and asks it for steps."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.runners import Runner
from benchmarks.workload import Workload
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
        RunnerError: the runner failed.
    """

    def __init__(self, runner: Runner, workload: Workload, folder: Path) -> None:
        self.runner = runner
        self._messages = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see kill
        self._connection, theirs = multiprocessing.Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks.worker", str(theirs.fileno())],
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

    def steps(self, number: int) -> list[float]:
        """Does `number` steps now and returns the seconds of each, or raises RunnerError."""
        return self._ask(number)

    def finish(self) -> int:
        """Ends the process and returns its peak memory in bytes, or raises RunnerError."""
        peak_bytes = self._ask(None)
        self._process.wait()
        self.kill()
        return peak_bytes

    def kill(self) -> None:
        """Kills the process, if it is running, and those that it has started."""
        with contextlib.suppress(ProcessLookupError):
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
