import argparse
import pathlib
import pickle
import sys
import zipfile

import numpy as np
import pytest

from keras_crossvit import create_model, load_checkpoint, load_model, state_dict
from keras_crossvit.checkpoints.torch_files import read_torch_file
from tests.helpers import tiny
from tests.helpers.weights import assert_has_reference_weights, assert_refused, blank_model, torch_weights

torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file

SUFFIXES = (".pt", ".ckpt", ".bin", ".pth.tar", ".pt.tar", ".tar", ".pkl", ".torch", ".PTH", ".safetensors", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "pickle"])
def test_files_are_recognized_by_their_content(suffix, zipped, tmp_path):
    path = tmp_path / f"last{suffix}"
    torch.save({"state_dict": torch_weights()}, path, _use_new_zipfile_serialization=zipped)
    model = blank_model()
    load_checkpoint(model, path)
    assert_has_reference_weights(model)
    if zipped:
        assert_has_reference_weights(tiny.fresh_model(weights=str(path)))


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".st", ""])
def test_safetensors_are_recognized_by_their_content(suffix, tmp_path):
    save_file(torch_weights(), tmp_path / f"model{suffix}")
    model = blank_model()
    load_checkpoint(model, tmp_path / f"model{suffix}")
    assert_has_reference_weights(model)


@pytest.fixture(scope="module")
def published():
    return create_model("crossvit_9", 5, img_size=(96, 80))


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin"])
def test_load_model_reads_every_suffix_with_a_variant(suffix, published, tmp_path):
    model = published
    torch.save({n: torch.tensor(a) for n, a in state_dict(model).items()}, tmp_path / f"model{suffix}")
    restored = load_model(tmp_path / f"model{suffix}", variant="crossvit_9_240")
    np.testing.assert_equal(state_dict(restored), state_dict(model))
    with pytest.raises(ValueError, match="variant"):
        load_model(tmp_path / f"model{suffix}")


@pytest.mark.parametrize("content", [b"", b"hello", b"not a checkpoint at all", b"\x00" * 100])
def test_unknown_content_names_the_known_suffixes(content, tmp_path):
    (tmp_path / "weights.npz").write_bytes(content)
    assert ".safetensors, .pth" in assert_refused(tmp_path / "weights.npz")


def test_npz_files_are_refused_but_their_content_is_a_mapping(tmp_path):
    np.savez(tmp_path / "weights.npz", **tiny.reference_weights())
    assert ".safetensors, .pth" in assert_refused(tmp_path / "weights.npz")
    model = blank_model()
    with np.load(tmp_path / "weights.npz") as arrays:
        load_checkpoint(model, arrays)
    assert_has_reference_weights(model)


def test_ema_of_timm_training_is_preferred(tmp_path):
    last_step = {f"module.{name}": tensor + 1 for name, tensor in torch_weights().items()}
    ema = {f"_orig_mod.module.{name}": tensor for name, tensor in torch_weights().items()}
    content = {"epoch": 3, "arch": "crossvit_9_dagger_240", "version": 2, "metric": 77.1}
    content |= {"state_dict": last_step, "state_dict_ema": ema, "args": argparse.Namespace(lr=0.1)}
    content["optimizer"] = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict()
    torch.save(content, tmp_path / "model_best.pth.tar")  # timm's name
    model = blank_model()
    load_checkpoint(model, tmp_path / "model_best.pth.tar")
    assert_has_reference_weights(model)


def test_lightning_checkpoints_are_read(tmp_path):
    content = {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{name}": tensor for name, tensor in torch_weights().items()},
        "callbacks": {},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "hyper_parameters": {"lr": 0.1},
    }
    torch.save(content, tmp_path / "last.ckpt")
    model = blank_model()
    result = load_checkpoint(model, tmp_path / "last.ckpt")
    assert_has_reference_weights(model)
    assert result.prefix == "model."


@pytest.mark.parametrize(
    "nest",
    [
        lambda weights: weights,
        lambda weights: {"model": weights, "epoch": 3},
        lambda weights: {"state_dict": weights},
        lambda weights: {"model_state_dict": weights, "optimizer_state_dict": {"state": {}}, "epoch": 3},
        lambda weights: {"model_ema": {"module": weights, "decay": 0.999}, "model": {"norm.0.bias": torch.ones(2)}},
        lambda weights: {"state_dict_ema": weights, "state_dict": {name: -each for name, each in weights.items()}},
        lambda weights: {"module": weights, "global_steps": 5},
    ],
)
@pytest.mark.parametrize("spelling", ["timm", "official"])
def test_weights_are_found_where_training_scripts_put_them(nest, spelling, tmp_path):
    torch.save(nest(torch_weights(spelling)), tmp_path / "checkpoint.pt")
    for source in (tmp_path / "checkpoint.pt", nest(torch_weights(spelling))):
        model = blank_model()
        load_checkpoint(model, source)
        assert_has_reference_weights(model)


def test_content_without_tensors_is_refused(tmp_path):
    content = {"epoch": 3}
    content["model"] = content
    torch.save(content, tmp_path / "weights.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    assert_refused(tmp_path / "weights.pt")
    assert_refused(tmp_path / "list.pt")


class Malicious:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return (pathlib.Path.touch, (self.proof,))


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_nothing_in_a_malicious_pickle_runs(write, tmp_path):
    proof = tmp_path / "it_ran"
    write({"model": torch_weights(), "more": Malicious(proof)}, tmp_path / "weights.pth")
    message = assert_refused(tmp_path / "weights.pth")
    assert "weights_only" not in message  # PyTorch's own message says how to run the file anyway
    assert not proof.exists()
    pickle.loads(pickle.dumps(Malicious(proof)))  # the test would notice
    assert proof.exists()


def test_damaged_pickles_are_refused_in_one_line(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": {"norm.0.bias": torch.ones(2)}}, path, _use_new_zipfile_serialization=False)
    content, random, refused = path.read_bytes(), np.random.default_rng(0), []
    for position in range(0, len(content), 2):
        path.write_bytes(content[:position] + random.bytes(1) + content[position + 1 :])
        try:
            read_torch_file(path)
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > len(content) // 8
    assert not any("\n" in line for line in refused)


def test_torchscript_programs_are_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "model.pt")
    assert "TorchScript" in assert_refused(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("value", "named"), [(pathlib.PurePosixPath("a"), "pathlib.PurePosixPath"), (np.float64(0.5), "numpy")]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_objects_beside_the_weights_are_named(value, named, zipped, tmp_path):
    content = {"model": torch_weights(), "more": value, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)
    assert named in assert_refused(tmp_path / "weights.pth")


def test_a_tensor_that_declares_more_than_it_has_is_refused_by_its_shape(tmp_path):
    weights = torch_weights()
    weights["norm.0.bias"] = torch.ones(1, dtype=torch.float16).expand(200_000, 200_000)  # 80 GB, if it were allocated
    torch.save(weights, tmp_path / "weights.pth")
    assert "norm.0.bias" in assert_refused(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_hub_snapshot_folder_gives_its_weights(name, tmp_path):
    if name.endswith(".bin"):
        torch.save(torch_weights(), tmp_path / name)
    else:
        save_file(torch_weights(), tmp_path / name)
    model = blank_model()
    load_checkpoint(model, tmp_path)
    assert_has_reference_weights(model)


def test_folder_without_weights_names_what_it_needs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is a folder without best\.keras, model\.safetensors"):
        load_checkpoint(blank_model(), tmp_path)


def test_averaged_models_of_pytorch_are_read(tmp_path):
    weights = {f"module.{name}": tensor for name, tensor in torch_weights().items()}
    torch.save({"n_averaged": torch.tensor(3), **weights}, tmp_path / "weights.pth")
    model = blank_model()
    load_checkpoint(model, tmp_path / "weights.pth")
    assert_has_reference_weights(model)


def test_pth_without_pytorch_names_the_extra(tmp_path, monkeypatch):
    torch.save(torch_weights(), tmp_path / "weights.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install"):
        load_checkpoint(blank_model(), tmp_path / "weights.pth")


def test_tensors_that_repeat_a_few_values_to_a_vast_shape_are_refused(tmp_path):
    weights = torch_weights()
    for branch in (0, 1):
        dim = weights[f"head.{branch}.weight"].shape[1]
        weights[f"head.{branch}.weight"] = torch.zeros(1).expand(10**9, dim)
        weights[f"head.{branch}.bias"] = torch.zeros(1).expand(10**9)
    torch.save(weights, tmp_path / "model.pth")
    assert "holds only" in assert_refused(tmp_path / "model.pth", adapt=True)


def test_a_zip_file_with_a_name_that_is_not_utf_8_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pth", "w") as archive:
        archive.writestr("däta.pkl", b"")
    content = (tmp_path / "model.pth").read_bytes()
    (tmp_path / "model.pth").write_bytes(content.replace("ä".encode(), b"\xff\xff"))
    assert "model.pth" in assert_refused(tmp_path / "model.pth")
