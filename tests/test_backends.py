"""The tests marked `backends`, once more on JAX and on PyTorch, each in a process of its own."""

import pytest

from tests.helpers.processes import compiled_once, run_python


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_model_layers_checkpoints_and_a_training_step(backend, tmp_path):
    # JAX compiles every operation for every dtype and every layer object anew: half precision, and layers made a second
    # time, are left to the other two backends.
    selection = ("-k", "not half_precision and not configuration_rebuilds") if backend == "jax" else ()
    done = run_python(
        *("-m", "pytest", *selection, "-q", "-m", "backends", "--numprocesses=0", "-p", "no:cacheprovider", "tests"),
        KERAS_BACKEND=backend,
        **compiled_once(tmp_path),
    )
    assert " passed" in done.stdout.splitlines()[-1]
    assert "failed" not in done.stdout.splitlines()[-1]
