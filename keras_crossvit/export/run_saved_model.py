"""Runs a SavedModel with TensorFlow alone; a script of its own, so that no other library is imported.

Usage: python -P run_saved_model.py SAVED_MODEL_FOLDER INPUTS.npz OUTPUTS.npz

Arrays go by "signature/tensor". The bytes of files come one by one, as uint8 arrays at "signature/tensor/number".
"""

import sys

import numpy as np

STRANGERS = ("keras", "keras_crossvit")


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
        answer = found[signature](**{name: tf.constant(value) for name, value in tensors.items()})
        outputs |= {f"{signature}/{name}": storable(tensor.numpy()) for name, tensor in answer.items()}
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


def storable(array: np.ndarray) -> np.ndarray:
    """The array as `.npz` files hold it: strings as bytes."""
    return array.astype("S") if array.dtype == object else array


if __name__ == "__main__":
    main(*sys.argv[1:])
