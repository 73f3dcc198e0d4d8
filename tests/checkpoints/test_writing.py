import json
import sys

import keras
import numpy as np
import pytest
from safetensors import safe_open

from keras_crossvit import save_checkpoint, state_dict
from tests.helpers import tiny
from tests.helpers.weights import saved_reference


def load_by_pytorch(path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    return torch.load(path, weights_only=True) if path.suffix == ".pth" else load_file(path)


def metadata(path):
    with safe_open(path, framework="numpy") as tensors:
        return tensors.metadata()


def test_safetensors_describe_their_model(tmp_path):
    model = tiny.reference_model("tiny_avg_pool", class_names=tuple("abcdefg"))
    save_checkpoint(model, tmp_path / "model.safetensors")
    described = metadata(tmp_path / "model.safetensors")
    assert described["format"] == "pt"
    assert json.loads(described["keras_crossvit"]) == json.loads(json.dumps(model.get_config()))


def test_safetensors_have_the_permissions_of_any_new_file(tmp_path):
    save_checkpoint(tiny.fresh_model(), tmp_path / "model.safetensors")
    (tmp_path / "any").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_pth_has_tensors_with_timm_names(tmp_path):
    save_checkpoint(tiny.reference_model(), tmp_path / "model.pth")
    content = load_by_pytorch(tmp_path / "model.pth")
    assert {name: tuple(tensor.shape) for name, tensor in content.items()} == {
        name: array.shape for name, array in tiny.reference_weights().items()
    }


def test_half_precision_weights_keep_their_dtype(tmp_path):
    model = tiny.fresh_model(dtype="bfloat16")
    for suffix in (".pth", ".safetensors"):
        save_checkpoint(model, tmp_path / f"model{suffix}")
        tensors = load_by_pytorch(tmp_path / f"model{suffix}")
        assert "torch.bfloat16" in {str(tensor.dtype) for tensor in tensors.values()}
        for name, array in state_dict(model).items():
            assert str(tensors[name].dtype) == f"torch.{array.dtype.name}"
            np.testing.assert_array_equal(tensors[name].float(), array.astype("float32"), err_msg=name)


def test_keras_loads_its_own_formats(tmp_path):
    model = tiny.fresh_model()
    model.load_weights(saved_reference(".weights.h5", tmp_path))
    for loaded in (model, keras.models.load_model(saved_reference(".keras", tmp_path))):
        np.testing.assert_equal(state_dict(loaded), tiny.reference_weights())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".weights.h5", ".keras"])
def test_interrupted_writing_keeps_the_old_file(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"old")

    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    for writer in ("keras_crossvit.checkpoints.writing.save_file", "torch.save"):
        monkeypatch.setattr(writer, interrupt)
    monkeypatch.setattr(keras.Model, "save_weights", interrupt)
    monkeypatch.setattr(keras.Model, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tiny.fresh_model(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_pth_without_pytorch_names_the_extra_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install"):
        save_checkpoint(tiny.fresh_model(), tmp_path / "model.pth")
    assert not list(tmp_path.iterdir())


def test_unknown_suffix_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"\.safetensors, \.pth, \.pth\.tar, \.weights\.h5, \.keras"):
        save_checkpoint(tiny.fresh_model(), tmp_path / "model.bin")
    assert not list(tmp_path.iterdir())
