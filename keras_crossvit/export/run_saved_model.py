"""Runs a SavedModel with TensorFlow alone; a script of its own, so that no other library is imported.

Usage: python run_saved_model.py SAVED_MODEL_FOLDER INPUTS.npz OUTPUTS.npz
"""

import sys

import numpy as np
import tensorflow as tf


def main(folder: str, inputs_path: str, outputs_path: str) -> None:
    """Feeds the arrays of one file to `serving_default` and stores what it returns in another."""
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    with np.load(inputs_path) as inputs:
        outputs = signature(**{name: tf.constant(inputs[name]) for name in inputs.files})
    strangers = [name for name in ("keras", "keras_crossvit") if name in sys.modules]
    if strangers:
        raise SystemExit(f"{' and '.join(strangers)} came along; this process proves nothing about serving.")
    np.savez(outputs_path, **{name: tensor.numpy() for name, tensor in outputs.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
