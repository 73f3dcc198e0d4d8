"""Checkpoints of the reference weights, and assertions about loading them."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest

from keras_crossvit import load_checkpoint, save_checkpoint, state_dict
from tests.helpers import tiny


def torch_weights(spelling="timm"):
    """Returns the reference weights as PyTorch tensors, with timm's or the authors' ("official") names."""
    torch = pytest.importorskip("torch")
    weights = {name: torch.tensor(array) for name, array in tiny.reference_weights().items()}
    if spelling == "timm":
        return weights
    return {
        name.replace("cls_token_", "cls_token.").replace("pos_embed_", "pos_embed."): weights[name] for name in weights
    }


def written(weights, suffix, folder):
    """Returns PyTorch tensors as a mapping (None) or as the path of a file."""
    if suffix is None:
        return weights
    import torch
    from safetensors.torch import save_file

    path = folder / f"weights{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    return path


@functools.cache
def _saved(suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"model{suffix}")
        save_checkpoint(tiny.reference_model(), path)
        return path.read_bytes()


def saved_reference(suffix, folder):
    """Returns a file of `save_checkpoint` with the reference weights, which is written once per session."""
    path = folder / f"model{suffix}"
    path.write_bytes(_saved(suffix))
    return path


def assert_has_reference_weights(model, model_name="tiny_square"):
    loaded, saved = state_dict(model), tiny.reference_weights(model_name)
    assert loaded.keys() == saved.keys()
    for name, array in saved.items():
        np.testing.assert_array_equal(loaded[name], array, err_msg=name)


@functools.cache
def _shared_model(dtype):
    return tiny.fresh_model(dtype=dtype)


def blank_model(dtype=None):
    """Returns a tiny model with zero weights; all tests share it, because building takes most of the time."""
    model = _shared_model(dtype)
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    return model


def assert_refused(source, model=None, **keywords):
    """Asserts that loading raises ValueError with one line and changes no variable; returns the line."""
    model = model or blank_model()
    before = [variable.numpy() for variable in model.variables]
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - callers look at the message
        load_checkpoint(model, source, **keywords)
    assert "\n" not in str(raised.value)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
    return str(raised.value)
