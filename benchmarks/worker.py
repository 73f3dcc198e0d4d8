"""The process of one contender: `python worker.py TASK.json`, told by lines of JSON what to do next.

It is run as a file, not as a module of the package: a peer's process must not hold Keras in its memory. On the first
line that it prints it is ready, or says what went wrong; for every line {"steps": n} that it reads it prints the
seconds of n steps; at the end of its input it prints its peak memory and leaves.

A contender that has a function `convert` runs a converted model. `python worker.py TASK.json convert` converts it: a
process of its own, whose memory is not the contender's.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from keras_crossvit._internal.errors import OperationError


def main() -> None:
    """Prepares the contender, then does as many steps as asked, each time it is asked."""
    path, *converts = sys.argv[1:]
    task = json.loads(Path(path).read_text())
    if converts:
        _load(task["module"]).convert(task)
        return
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not belong between the answers
    if hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))[: task["work"]["threads"]]
        os.sched_setaffinity(0, processors)
    try:
        started = time.perf_counter()
        module = _load(task["module"])
        if hasattr(module, "convert"):
            _convert_aside(path)
        runner = module.prepare(task)
        answer = runner.step()
        if answer is not None:
            np.save(Path(task["folder"], f"{task['name']}.npy"), answer)
        seconds, macs = time.perf_counter() - started, getattr(runner, "macs", None)
        _answer(say, ready=True, answers=answer is not None, first_step_seconds=seconds, macs=macs)
        for line in sys.stdin:
            _answer(say, seconds=[_timed(runner) for _ in range(json.loads(line)["steps"])])
        _answer(say, peak_bytes=_peak_bytes(runner))
    except Exception as error:  # the parent names the contender and goes on with the others
        _answer(say, error=f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")


def _load(module: str) -> Any:
    path = Path(__file__).with_name(f"{module}.py")
    spec = importlib.util.spec_from_file_location(module, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def _convert_aside(path: str) -> None:
    command = [sys.executable, "-P", __file__, path, "convert"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    if done.returncode:
        raise OperationError((done.stderr.strip().splitlines() or ["the conversion failed without a message"])[-1])


def _timed(runner: Any) -> float:
    started = time.perf_counter()
    runner.step()
    return time.perf_counter() - started


def _peak_bytes(runner: Any) -> int:
    """Of the accelerator where the contender uses one, else of the process that works."""
    if hasattr(runner, "peak_bytes") and (peak := runner.peak_bytes()):
        return peak
    children = getattr(runner, "works_in_children", False)
    status = Path("/proc/self/status")
    if status.is_file() and not children:  # getrusage would count what the parent held when it started this process
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024)


def _answer(say: TextIO, **message: Any) -> None:
    print(json.dumps(message), file=say, flush=True)


if __name__ == "__main__":
    main()
