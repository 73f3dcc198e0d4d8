"""A contender's process, seen from the one that asks for its steps."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras_crossvit
from benchmarks.runners import Runner
from benchmarks.workload import Workload
from keras_crossvit.cli.environment import TENSORFLOW_SETTINGS


class RunnerError(RuntimeError):
    """A contender could not do the work; the others can."""


class Process:
    """Starts a contender and waits until it has done its first step.

    Args:
        runner: The contender.
        work: The work.
        folder: Folder of the weights and data, where its answer goes too.

    Raises:
        RunnerError: it could not do the work.
    """

    def __init__(self, runner: Runner, work: Workload, folder: Path) -> None:
        self.runner = runner
        task = folder / f"{runner.name}.json"
        task.write_text(
            json.dumps(
                {
                    "name": runner.name,
                    "module": runner.module,
                    "options": dict(runner.options),
                    "work": dataclasses.asdict(work),
                    "timm_name": work.timm_name,
                    "image_sizes": work.config.image_sizes,
                    "folder": str(folder),
                }
            )
        )
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("worker.py")), str(task)],
            env=_environment(runner, work.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            process_group=0,  # an interrupt is this process's to hear, which ends all that a contender has started
        )
        try:
            ready = self._read()
        except BaseException:
            self.kill()
            raise
        self.first_step_seconds: float = ready["first_step_seconds"]
        self.macs: int | None = ready["macs"]
        self.answer: Path | None = folder / f"{runner.name}.npy" if ready["answers"] else None

    def steps(self, number: int) -> list[float]:
        """Seconds of each of `number` steps, done now.

        Raises:
            RunnerError: it has ended, or failed.
        """
        try:
            self._process.stdin.write(json.dumps({"steps": number}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RunnerError(self._last_words()) from None
        return self._read()["seconds"]

    def finish(self) -> int:
        """Ends the process, and returns its peak memory in bytes.

        Raises:
            RunnerError: it has ended before.
        """
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        peak = self._read()["peak_bytes"]
        self._process.wait()
        self._close()
        return peak

    def kill(self) -> None:
        """Ends the process at once, and those that it has started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._close()

    def _close(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # what a dead process has not read is written at closing
            self._process.stdin.close()
        for stream in (self._process.stdout, self._errors):
            stream.close()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        message = json.loads(line) if line else {"error": self._last_words()}
        if "error" in message:
            self.kill()
            raise RunnerError(message["error"])
        return message

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or ["no message"]
        return f"ended with exit code {code}: {lines[-1]}"


def _environment(runner: Runner, threads: int) -> dict[str, str]:
    package = str(Path(keras_crossvit.__file__).parents[1])
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    environment = {
        **TENSORFLOW_SETTINGS,
        **os.environ,
        "PYTHONPATH": paths,
        "OPENBLAS_NUM_THREADS": str(threads),  # NumPy's, which makes its threads when it is imported
    }
    if runner.backend:
        environment["KERAS_BACKEND"] = runner.backend
    return environment
