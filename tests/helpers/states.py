"""States of runs, changed as by someone else."""

import json

import safetensors.numpy
from safetensors import safe_open


def rewrite(path, change):
    """Rewrites a state file; `change` is a function that changes its metadata in place."""
    with safe_open(path, "numpy") as file:
        metadata = json.loads(file.metadata()["training_state"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    change(metadata)
    safetensors.numpy.save_file(arrays, path, {"training_state": json.dumps(metadata)})
