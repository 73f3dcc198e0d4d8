"""Artefacts run by scripts in processes of their own."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import FileError, OperationError, tensorflow_disk_reason


def write_archive(archive: Any, path: Path) -> None:
    """Writes a `keras.export.ExportArchive`.

    Raises:
        OSError: TensorFlow cannot write it, most often because the disk is full.
    """
    import tensorflow as tf

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TensorFlow names the folder, which has no name yet
            archive.write_out(str(path), verbose=False)
    except tf.errors.OpError as error:
        raise FileError(
            f"TensorFlow cannot write a SavedModel ({tensorflow_disk_reason(error)}); make room on the disk."
        ) from error


def run_script(script: str, artefact: str | PathLike, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs a script of this folder on an artefact, in a fresh process.

    Args:
        script: Name of the script, which takes the artefact and the files of its inputs and outputs (.npz).
        artefact: File or folder.
        inputs: Arrays by name.

    Returns:
        The output arrays by name.

    Raises:
        RuntimeError: the process failed; the message holds its last line.
    """
    with tempfile.TemporaryDirectory() as exchange:
        inputs_file, outputs_file = Path(exchange, "inputs.npz"), Path(exchange, "outputs.npz")
        np.savez(inputs_file, **inputs)
        # -P keeps the script's folder off the path, so that no module beside it can be imported by accident.
        command = [sys.executable, "-P", Path(__file__).with_name(script), artefact, inputs_file, outputs_file]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode:
            last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise OperationError(f"'{artefact}' could not be run in a process of its own: {last_line}")
        with np.load(outputs_file) as stored:
            return dict(stored)
