"""Runs a SavedModel with TensorFlow alone; a script of its own, so that no other library is imported.

Usage: python -P run_saved_model.py SAVED_MODEL_FOLDER INPUTS.npz OUTPUTS.npz

Arrays go by "signature/tensor". The bytes of files come one by one, as uint8 arrays at "signature/tensor/number".
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

STRANGERS = ("keras", "keras_crossvit")
_AT_ONCE = 16  # pictures; memory for activations grows with them


def main(folder: str, inputs_path: str, outputs_path: str) -> None:
    """Feeds the arrays of one file to the signatures that they name, and stores what these return in another."""
    for name in STRANGERS:
        sys.modules[name] = None  # TensorFlow imports Keras where it finds it; this makes it find none

    import tensorflow as tf

    found = tf.saved_model.load(folder).signatures
    with np.load(inputs_path) as stored:
        requests = _by_signature(stored)
    outputs = {}
    for signature, tensors in requests.items():
        answer = in_batches(found[signature], {name: tf.constant(value) for name, value in tensors.items()})
        outputs |= {f"{signature}/{name}": array for name, array in answer.items()}
    came_along = [name for name, module in sys.modules.items() if module and name.split(".")[0] in STRANGERS]
    if came_along:
        raise SystemExit(f"{', '.join(came_along)} came along; this process proves nothing about serving.")
    np.savez(outputs_path, **outputs)


def _by_signature(stored: np.lib.npyio.NpzFile) -> dict[str, dict]:
    requests = {}
    for key in stored.files:
        signature, tensor, *number = key.split("/")
        tensors = requests.setdefault(signature, {})
        if number:
            tensors.setdefault(tensor, []).append(stored[key].tobytes())
        else:
            tensors[tensor] = stored[key]
    return requests


def in_batches(function: Callable[..., Mapping[str, Any]], tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What a function of tensors by name answers to a batch, a few elements at a time.

    Args:
        function: Takes tensors by name and returns such.
        tensors: The batch; one element at least.

    Returns:
        Its outputs by name, as `storable` makes them.
    """
    rounds = range(0, len(next(iter(tensors.values()))), _AT_ONCE)
    answers = [
        function(**{name: tensor[start : start + _AT_ONCE] for name, tensor in tensors.items()}) for start in rounds
    ]
    return {name: np.concatenate([storable(answer[name].numpy()) for answer in answers]) for name in answers[0]}


def storable(array: np.ndarray) -> np.ndarray:
    """The array as `.npz` files hold it: strings as bytes."""
    return array.astype("S") if array.dtype == object else array


if __name__ == "__main__":
    main(*sys.argv[1:])
