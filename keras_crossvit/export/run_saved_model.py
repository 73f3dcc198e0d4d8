"""Runs a SavedModel with TensorFlow alone; a script of its own, so that no other library is imported.

Usage: python -P run_saved_model.py SAVED_MODEL_FOLDER INPUTS.npz OUTPUTS.npz
"""

import sys

import numpy as np

STRANGERS = ("keras", "keras_crossvit")


def main(folder: str, inputs_path: str, outputs_path: str) -> None:
    """Feeds the arrays of one file to `serving_default` and stores what it returns in another."""
    for name in STRANGERS:
        sys.modules[name] = None  # TensorFlow imports Keras where it finds it; this makes it find none

    import tensorflow as tf

    signature = tf.saved_model.load(folder).signatures["serving_default"]
    with np.load(inputs_path) as inputs:
        outputs = signature(**{name: tf.constant(inputs[name]) for name in inputs.files})
    came_along = [name for name, module in sys.modules.items() if module and name.split(".")[0] in STRANGERS]
    if came_along:
        raise SystemExit(f"{', '.join(came_along)} came along; this process proves nothing about serving.")
    np.savez(outputs_path, **{name: tensor.numpy() for name, tensor in outputs.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
