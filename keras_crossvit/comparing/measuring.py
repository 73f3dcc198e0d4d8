"""Measures a model file in a process of its own, whose memory is that of the file's runtime only.

This module is also the program of that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LATENCY_BATCHES = {1: 21, 8: 9}  # number of timed calls by batch size
_UNTIMED_CALLS = 2  # allocate buffers, or trace
_LONGEST_NOTE = 4000


def measure(
    path: Path,
    files: Sequence[str],
    *,
    crop_fraction: float | None,
    threads: int,
    on_progress: Callable[[int], None],
) -> tuple[dict[str, Any], np.ndarray]:
    """Runs a model file on image files.

    Args:
        path: The model file, as `load_runtime` takes it.
        files: The image files.
        crop_fraction: As in `preprocess`.
        threads: Threads of the runtime, and files to read at once.
        on_progress: Is called with the number of images that are done.

    Returns:
        Tuple (measured, logits): the latency in milliseconds by batch size ("latency_ms"), the seconds from files to
        logits ("seconds"), the peak memory of the process ("peak_bytes") and the file's metadata; and the logits of all
        images.

    Raises:
        OperationError: the process failed; the message has the last line of its output, a note has more.
    """
    from keras_crossvit._internal.errors import OperationError

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+", errors="replace") as printed:
        job = {"path": str(path), "files": list(files), "crop_fraction": crop_fraction, "threads": threads}
        Path(folder, "job.json").write_text(json.dumps(job))
        # -P keeps this folder off the path, so that no module beside this one is imported by accident.
        command = [sys.executable, "-P", __file__, folder]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=printed, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                on_progress(int(line))
            code = process.wait()
        finally:  # also after an interrupt
            process.kill()
            process.wait()
        if code:
            printed.seek(0)
            text = printed.read().strip() or f"exit code {code}"
            error = OperationError(text.splitlines()[-1])
            error.add_note(f"Output of the process:\n{text[-_LONGEST_NOTE:]}")
            raise error
        return json.loads(Path(folder, "measured.json").read_text()), np.load(Path(folder, "logits.npy"))


def _main(folder: str) -> None:
    progress = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not progress
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this very package, if another one is installed
    from keras_crossvit._internal.errors import CrossViTError

    job = json.loads(Path(folder, "job.json").read_text())
    try:
        measured, logits = _measure(progress=lambda count: print(count, file=progress), **job)
    except CrossViTError as error:
        sys.exit(str(error))
    np.save(Path(folder, "logits.npy"), logits)
    Path(folder, "measured.json").write_text(json.dumps(measured))


def _measure(
    path: str, files: Sequence[str], crop_fraction: float | None, threads: int, progress: Callable[[int], None]
) -> tuple[dict[str, Any], np.ndarray]:
    from keras_crossvit._internal.memory import peak_memory
    from keras_crossvit.preprocessing import preprocess
    from keras_crossvit.preprocessing.files import BATCH_SIZE, preprocess_files
    from keras_crossvit.runtimes import load_runtime

    runtime = load_runtime(path, threads=threads)
    inputs = preprocess(files[: max(LATENCY_BATCHES)], runtime, crop_fraction=crop_fraction)
    latencies = {}
    for batch_size, calls in LATENCY_BATCHES.items():
        batch = [np.resize(each, (batch_size, *each.shape[1:])) for each in inputs]
        seconds = [_seconds(runtime.logits, batch) for _ in range(_UNTIMED_CALLS + calls)][_UNTIMED_CALLS:]
        latencies[batch_size] = 1000 * float(np.median(seconds))
    logits, count, start = [], 0, time.perf_counter()
    batches = preprocess_files(
        files, runtime, runtime.batch_size or BATCH_SIZE, crop_fraction=crop_fraction, threads=threads
    )
    for names, images in batches:
        logits.append(runtime.logits(*images))
        count += len(names)
        progress(count)
    measured = {"latency_ms": latencies, "seconds": time.perf_counter() - start, "peak_bytes": peak_memory()}
    return {**measured, "metadata": runtime.metadata.to_json()}, np.concatenate(logits)


def _seconds(function: Callable[..., Any], arguments: Sequence[np.ndarray]) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    _main(*sys.argv[1:])
