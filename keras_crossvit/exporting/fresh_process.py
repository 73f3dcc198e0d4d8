"""Runs an export in a fresh process that lacks the libraries which the export must not need.

This module is also the program of that process: it blocks those libraries before it imports anything but NumPy.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

_BLOCKED = {"file": ("keras", "tensorflow"), "saved_model": ("keras", "keras_crossvit")}
_BATCH_SIZE = 16  # memory for activations grows with it
_LONGEST_NOTE = 4000

Requests = Mapping[str, Mapping[str, Any]]  # by signature and tensor: an array, or a list of bytes
Outputs = dict[str, dict[str, np.ndarray]]  # by signature and tensor


def run_file(path: str | PathLike[str], images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs of an exported file, computed by its runtime without Keras and TensorFlow.

    Raises:
        RuntimeError: the process failed; the message has the last line of its output, a note has more.
    """
    return _run("file", path, images)


def run_saved_model(path: str | PathLike[str], requests: Requests) -> Outputs:
    """Returns the outputs of a SavedModel's signatures, computed by TensorFlow without Keras and this package.

    Raises:
        RuntimeError: as above.
    """
    return _run("saved_model", path, requests)


def call_in_batches(function: Callable[..., Mapping[str, Any]], tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Calls a function of named tensors on a few elements of a batch at a time, and joins its named outputs."""
    starts = range(0, len(next(iter(tensors.values()))), _BATCH_SIZE)
    outputs = [
        function(**{name: tensor[start : start + _BATCH_SIZE] for name, tensor in tensors.items()}) for start in starts
    ]
    return {name: np.concatenate([each[name].numpy() for each in outputs]) for name in outputs[0]}


def _run(kind: str, path: str | PathLike[str], inputs: Any) -> Any:
    from keras_crossvit._internal.errors import OperationError

    with tempfile.TemporaryDirectory() as folder:
        inputs_file, outputs_file = Path(folder, "inputs"), Path(folder, "outputs")
        inputs_file.write_bytes(pickle.dumps(inputs))
        # -P keeps this folder off the path, so that no module beside this one is imported by accident.
        command = [sys.executable, "-P", __file__, kind, str(path), str(inputs_file), str(outputs_file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            printed = done.stderr.strip() or "no message"
            error = OperationError(f"'{path}' cannot be run in a fresh process: {printed.splitlines()[-1]}")
            error.add_note(f"Output of the process:\n{printed[-_LONGEST_NOTE:]}")
            raise error
        return pickle.loads(outputs_file.read_bytes())


def _main(kind: str, path: str, inputs_file: str, outputs_file: str) -> None:
    for name in _BLOCKED[kind]:
        sys.modules[name] = None  # type: ignore[assignment]  # which makes every import of it fail
    inputs = pickle.loads(Path(inputs_file).read_bytes())
    outputs = _file_outputs(path, inputs) if kind == "file" else _signature_outputs(path, inputs)
    loaded = [name for name, module in sys.modules.items() if module and name.split(".")[0] in _BLOCKED[kind]]
    if loaded:
        raise SystemExit(f"{', '.join(loaded)} were imported, so this process does not show that they are not needed.")
    Path(outputs_file).write_bytes(pickle.dumps(outputs))


def _file_outputs(path: str, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this very package, if another one is installed
    from keras_crossvit.runtimes import load_runtime

    return load_runtime(path).outputs(*images.values())


def _signature_outputs(path: str, requests: Requests) -> Outputs:
    import tensorflow as tf

    model = tf.saved_model.load(path)
    return {
        signature: call_in_batches(
            model.signatures[signature], {name: tf.constant(values) for name, values in tensors.items()}
        )
        for signature, tensors in requests.items()
    }


if __name__ == "__main__":
    _main(*sys.argv[1:])
