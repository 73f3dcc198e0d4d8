"""All weights are set or none, and only finite ones."""

import functools
import shutil
import tempfile
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import torch

from keras_crossvit import build_crossvit, load_checkpoint, load_model, save_checkpoint, state_dict
from keras_crossvit.checkpoints.tensors import from_timm_layout, variables_by_timm_name
from tests.helpers import reference, tiny
from tests.helpers.weights import assert_refused, blank_model, torch_weights, written

LAST = list(tiny.reference_weights())[-1]
FORMATS = (".safetensors", ".pth", ".weights.h5", ".keras")
BAD = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


def weights_with(value, name="norm.0.bias"):
    weights = {each: array.copy() for each, array in tiny.reference_weights().items()}
    weights[name].flat[-1] = value
    return weights


@functools.cache
def whole_file(suffix):
    """The content of a file of the drawn weights."""
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(tiny.reference_model(), Path(folder, f"model{suffix}"))
        return Path(folder, f"model{suffix}").read_bytes()


def source_of(weights, suffix, folder):
    """The weights as a mapping (None), or as a file that the package or Keras wrote."""
    if suffix is None:
        return weights
    model = blank_model()
    for name, variable in variables_by_timm_name(model).items():
        variable.assign(from_timm_layout(weights[name], variable.name))
    save_checkpoint(model, folder / f"model{suffix}")
    return folder / f"model{suffix}"


@pytest.mark.parametrize("suffix", [None, *FORMATS])
@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_weights_that_are_not_finite_are_refused_by_every_reader(suffix, value, tmp_path):
    source = source_of(weights_with(value), suffix, tmp_path)
    message = assert_refused(source)
    assert "norm.0.bias" in message
    assert "allow_nonfinite=True" in message
    with pytest.raises(ValueError, match=r"norm\.0\.bias"):
        tiny.fresh_model(weights=source)


@pytest.mark.parametrize("suffix", [None, *FORMATS])
def test_weights_that_are_not_finite_are_taken_where_they_are_asked_for(suffix, tmp_path):
    source = source_of(weights_with(np.nan), suffix, tmp_path)
    model = blank_model()
    load_checkpoint(model, source, allow_nonfinite=True)
    np.testing.assert_equal(state_dict(model), weights_with(np.nan))
    built = build_crossvit(reference.tiny_config("tiny_square"), weights=source, allow_nonfinite=True)
    np.testing.assert_equal(state_dict(built), weights_with(np.nan))


@pytest.mark.parametrize("suffix", [".safetensors", ".keras"])
def test_models_rebuilt_from_files_are_held_to_the_same(suffix, tmp_path):
    path = source_of(weights_with(np.inf), suffix, tmp_path)
    with pytest.raises(ValueError, match="not finite") as raised:
        load_model(path)
    assert "allow_nonfinite=True" in str(raised.value)
    np.testing.assert_equal(state_dict(load_model(path, allow_nonfinite=True)), weights_with(np.inf))


@pytest.mark.parametrize("suffix", [None, ".safetensors", ".pth"])
@pytest.mark.parametrize(("stored", "held", "value"), [("float64", "float32", 1e39), ("float32", "float16", 1e5)])
def test_values_beyond_the_range_of_the_model_s_dtype_are_refused(suffix, stored, held, value, tmp_path):
    weights = {name: tensor.to(getattr(torch, stored)) for name, tensor in torch_weights().items()}
    weights["norm.0.bias"][0] = value
    message = assert_refused(written(weights, suffix, tmp_path), blank_model(held))
    assert "norm.0.bias" in message
    assert held in message


def test_a_head_that_is_left_out_may_be_anything(tmp_path):
    model = tiny.fresh_model(num_classes=3)
    report = load_checkpoint(model, weights_with(np.nan, "head.0.bias"), adapt_head=True)
    assert "head.0.bias" in report.skipped
    assert all(np.isfinite(array).all() for array in state_dict(model).values())


def test_a_resized_position_embedding_is_looked_at_too():
    model = tiny.fresh_model(img_size=((48, 72), (64, 32)))
    assert "pos_embed_0" in assert_refused(weights_with(np.nan, "pos_embed_0"), model, adapt_positions=True)


def test_a_source_that_fails_while_it_is_read_changes_nothing():
    class Failing:
        shape, dtype = tiny.reference_weights()[LAST].shape, np.dtype("float32")

        def __array__(self, *arguments, **keywords):
            raise RuntimeError("the network is gone")

    assert LAST in assert_refused({**tiny.reference_weights(), LAST: Failing()})


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_a_dtype_that_numpy_has_not_changes_nothing(dtype, tmp_path):
    weights = torch_weights()
    weights[LAST] = weights[LAST].to(getattr(torch, dtype))
    assert LAST in assert_refused(written(weights, ".safetensors", tmp_path))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kept", [0, 9, 0.3, 0.97])
def test_truncated_files_change_nothing(suffix, kept, tmp_path):
    path, content = tmp_path / f"model{suffix}", whole_file(suffix)
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    assert path.name in assert_refused(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_damaged_in_the_middle_load_whole_or_change_nothing(suffix, tmp_path):
    """Without a checksum a damaged number cannot be told from another; but nothing is loaded by halves."""
    path, content = tmp_path / f"model{suffix}", whole_file(suffix)
    random = np.random.default_rng(0)
    for position in random.integers(0, len(content), 5):
        damage = random.bytes(64)
        path.write_bytes(content[:position] + damage + content[position + len(damage) :])
        try:
            load_checkpoint(blank_model(), path, allow_nonfinite=True)
        except ValueError:
            assert_refused(path, allow_nonfinite=True)


def h5_with(path, dtype, folder):
    """A copy of a Keras file in which one weight is stored in another dtype; its place in the file."""
    place = "layers/transformer_block/mlp/expansion/vars/1"
    copy = folder / f"odd{'.keras' if path.suffix == '.keras' else '.weights.h5'}"
    weights = folder / "model.weights.h5"
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder / "members")
        weights = folder / "members" / "model.weights.h5"
    else:
        shutil.copy(path, copy)
        weights = copy
    with h5py.File(weights, "r+") as file:
        values = file[place][()]
        del file[place]
        file[place] = values.astype(dtype)
    if path.suffix == ".keras":
        with zipfile.ZipFile(copy, "w") as archive:
            for member in (folder / "members").iterdir():
                archive.write(member, member.name)
    return copy, place


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint8", "complex64"])
def test_keras_files_of_other_kinds_of_numbers_are_refused(suffix, dtype, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(whole_file(suffix))
    odd, place = h5_with(path, dtype, tmp_path)
    message = assert_refused(odd)
    assert place in message
    assert dtype in message
    if suffix == ".keras":
        with pytest.raises(ValueError, match=dtype):
            load_model(odd)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_keras_files_of_other_precisions_are_taken(suffix, dtype, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(whole_file(suffix))
    load_checkpoint(blank_model(), h5_with(path, dtype, tmp_path)[0])


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_keras_files_of_half_precision_and_with_an_optimizer_are_taken(suffix, tmp_path):
    model = tiny.fresh_model(dtype="bfloat16")
    model.compile(keras.optimizers.SGD(), "mse")  # whose count of steps is an integer in the file
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras") if suffix == ".keras" else model.save_weights(tmp_path / "model.weights.h5")
    other = tiny.fresh_model()
    load_checkpoint(other, tmp_path / f"model{suffix}")
    for name, array in state_dict(model).items():
        np.testing.assert_array_equal(state_dict(other)[name], array.astype("float32"), err_msg=name)


def test_keras_file_of_a_quantized_model_is_rebuilt(tmp_path):
    model = tiny.fresh_model()
    model.get_layer("small_patch_head").quantize("int8")
    model.save(tmp_path / "model.keras")
    restored = load_model(tmp_path / "model.keras")
    assert restored.get_layer("small_patch_head").quantization_mode == "int8"
