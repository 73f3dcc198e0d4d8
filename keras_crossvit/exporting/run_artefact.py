"""Runs an exported file where neither Keras nor TensorFlow is to be found; a script of its own.

Usage: python -P run_artefact.py ARTEFACT INPUTS.npz OUTPUTS.npz
"""

import sys
from pathlib import Path

import numpy as np

STRANGERS = ("keras", "tensorflow")


def main(artefact: str, inputs_path: str, outputs_path: str) -> None:
    """Feeds the arrays of one file to the artefact's runtime and stores its logits in another."""
    for name in STRANGERS:
        sys.modules[name] = None  # whoever imports them finds none
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this very package, should there be another

    from keras_crossvit.runtimes import load_runtime

    with np.load(inputs_path) as inputs:
        logits = load_runtime(artefact).logits(**inputs)
    np.savez(outputs_path, logits=logits)


if __name__ == "__main__":
    main(*sys.argv[1:])
