import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_crossvit import load_checkpoint, load_model, state_dict
from tests.helpers import tiny
from tests.helpers.weights import assert_refused, blank_model, saved_reference

SUFFIXES = (".weights.h5", ".keras")


@pytest.mark.parametrize("use", [load_model, lambda path: load_checkpoint(blank_model(), path)])
def test_legacy_files_are_refused_with_the_way_to_load_them(use, tmp_path):
    path = tmp_path / "model.h5"
    path.touch()
    with pytest.raises(ValueError, match=r"legacy format.*custom_objects=.'CrossViT'"):
        use(path)


def h5_with(path, dtype, folder):
    """Returns a copy of a Keras file with one weight in another dtype, and the weight's place in the file."""
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


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint8", "complex64"])
def test_weights_that_are_not_floats_are_refused_with_name_and_dtype(suffix, dtype, tmp_path):
    file, place = h5_with(saved_reference(suffix, tmp_path), dtype, tmp_path)
    message = assert_refused(file)
    assert place in message
    assert dtype in message
    if (suffix, dtype) == (".keras", "int8"):
        with pytest.raises(ValueError, match=dtype):
            load_model(file)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_float_dtypes_are_accepted(suffix, dtype, tmp_path):
    load_checkpoint(blank_model(), h5_with(saved_reference(suffix, tmp_path), dtype, tmp_path)[0])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_half_precision_and_optimizers_are_accepted(suffix, tmp_path):
    model = tiny.fresh_model(dtype="bfloat16")
    model.compile(keras.optimizers.SGD(), "mse")  # its step count is an integer in the file
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras") if suffix == ".keras" else model.save_weights(tmp_path / "model.weights.h5")
    other = tiny.fresh_model()
    load_checkpoint(other, tmp_path / f"model{suffix}")
    loaded = state_dict(other)
    for name, array in state_dict(model).items():
        np.testing.assert_array_equal(loaded[name], array.astype("float32"), err_msg=name)


def test_quantized_models_are_rebuilt(tmp_path):
    model = tiny.fresh_model()
    model.get_layer("small_patch_head").quantize("int8")
    model.save(tmp_path / "model.keras")
    restored = load_model(tmp_path / "model.keras")
    assert restored.get_layer("small_patch_head").quantization_mode == "int8"


def test_another_model_is_refused(tmp_path):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="Sequential"):
        load_checkpoint(blank_model(), tmp_path / "other.keras")


def test_an_array_that_is_only_declared_is_refused(tmp_path):
    path = saved_reference(".weights.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        del file["layers/dense/vars/1"]
        file.create_dataset("layers/dense/vars/1", shape=(10**9,), dtype="float32", chunks=(1024,))
    assert "has only" in assert_refused(path, adapt=True)
