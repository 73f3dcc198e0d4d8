"""Sources of the drawn weights, whole and damaged, and what is to be true after loading them."""

import functools

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from keras_crossvit import load_checkpoint, state_dict
from tests.helpers import tiny


def torch_weights(spelling="timm"):
    """The drawn weights as PyTorch's tensors, by timm's names or the authors' ("official")."""
    weights = {name: torch.tensor(array) for name, array in tiny.reference_weights().items()}
    if spelling == "timm":
        return weights
    return {
        name.replace("cls_token_", "cls_token.").replace("pos_embed_", "pos_embed."): weights[name] for name in weights
    }


def written(weights, suffix, folder):
    """PyTorch's tensors as a mapping (None) or as a file of this suffix."""
    if suffix is None:
        return weights
    path = folder / f"weights{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    return path


def assert_has_reference_weights(model, model_name="tiny_square"):
    held, drawn = state_dict(model), tiny.reference_weights(model_name)
    assert held.keys() == drawn.keys()
    for name, array in drawn.items():
        np.testing.assert_array_equal(held[name], array, err_msg=name)


@functools.cache
def _shared_model(dtype):
    return tiny.fresh_model(dtype=dtype)


def blank_model(dtype=None):
    """A tiny model, all of whose weights are zero; it is one for all tests, since building takes most of the time."""
    model = _shared_model(dtype)
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    return model


def assert_refused(source, model=None, **keywords):
    """Asserts that loading is a one-line ValueError after which every variable is what it was; returns the line."""
    model = model or blank_model()
    before = [variable.numpy() for variable in model.variables]
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - callers look at the message
        load_checkpoint(model, source, **keywords)
    assert "\n" not in str(raised.value)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
    return str(raised.value)
