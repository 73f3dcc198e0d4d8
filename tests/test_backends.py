"""Tests marked `backends` on JAX and on PyTorch, each in a process of its own."""

import pytest

from tests.helpers.processes import compiled_once, run_python


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_model_layers_checkpoints_and_a_training_step(backend, tmp_path):
    done = run_python(
        *("-m", "pytest", "-q", "-m", "backends", "--numprocesses=0", "-p", "no:cacheprovider", "tests"),
        KERAS_BACKEND=backend,
        **compiled_once(tmp_path),
    )
    assert " passed" in done.stdout.splitlines()[-1]
    assert "failed" not in done.stdout.splitlines()[-1]
