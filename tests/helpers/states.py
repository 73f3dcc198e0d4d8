"""States of runs, rewritten as someone else may have written them."""

import json

import safetensors.numpy
from safetensors import safe_open


def rewrite(path, change):
    """Changes what a state says of its run, by a function that changes it in place."""
    with safe_open(path, "numpy") as file:
        facts = json.loads(file.metadata()["training_state"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    change(facts)
    safetensors.numpy.save_file(arrays, path, {"training_state": json.dumps(facts)})
