import argparse
import pickle
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from keras_crossvit import load_checkpoint, load_model, save_checkpoint, state_dict
from tests.helpers import reference, tiny

FORMATS = (".safetensors", ".pth", ".weights.h5", ".keras")


def torch_weights(spelling="timm"):
    weights = {name: torch.tensor(array) for name, array in tiny.reference_weights().items()}
    if spelling == "timm":
        return weights
    return {
        name.replace("cls_token_", "cls_token.").replace("pos_embed_", "pos_embed."): weights[name] for name in weights
    }


def assert_has_reference_weights(model, model_name="tiny_square"):
    held, drawn = state_dict(model), tiny.reference_weights(model_name)
    assert held.keys() == drawn.keys()
    for name, array in drawn.items():
        np.testing.assert_array_equal(held[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("suffix", "model_name"),
    [
        (".safetensors", "tiny_single_conv"),
        (".pth", "tiny_no_qkv_bias"),
        (".pth.tar", "tiny_square"),
        (".weights.h5", "tiny_non_square"),
        (".weights.h5", "tiny_equal_dims"),
        (".keras", "tiny_avg_pool"),
    ],
)
def test_every_format_gives_back_what_was_saved(suffix, model_name, tmp_path):
    save_checkpoint(tiny.reference_model(model_name), tmp_path / f"model{suffix}")
    model = tiny.fresh_model(model_name)
    report = load_checkpoint(model, tmp_path / f"model{suffix}")
    assert_has_reference_weights(model, model_name)
    assert set(report.kept) == tiny.reference_weights(model_name).keys()
    assert report.adaptations == ()


def test_loaded_model_computes_what_the_reference_computes(tmp_path):
    torch.save(torch_weights("official"), tmp_path / "official.pth")
    model = tiny.fresh_model()
    load_checkpoint(model, tmp_path / "official.pth")
    logits = tiny.output(model, reference.draw_images("tiny_square"))
    # A straightforward float32 port agrees to 3e-6; the rest is room for another order of summation.
    np.testing.assert_allclose(logits, reference.arrays()["tiny_square/logits_two_images"], rtol=0, atol=1e-5)


def test_folder_of_a_run_gives_its_best_model_s_weights(tmp_path):
    save_checkpoint(tiny.reference_model(), tmp_path / "best.keras")
    model = tiny.fresh_model()
    load_checkpoint(model, tmp_path)
    assert_has_reference_weights(model)


@pytest.mark.parametrize("spelling", ["timm", "official"])
@pytest.mark.parametrize("nested_under", [None, "model", "state_dict", "model_ema"])
def test_pth_is_read_in_both_spellings_and_nested(spelling, nested_under, tmp_path):
    weights = torch_weights(spelling)
    content = weights if nested_under is None else {nested_under: weights, "epoch": 3}
    torch.save(content, tmp_path / "weights.pth")
    model = tiny.fresh_model()
    load_checkpoint(model, tmp_path / "weights.pth")
    assert_has_reference_weights(model)


def test_running_mean_of_timm_s_training_is_taken_as_timm_takes_it(tmp_path):
    last_step = {f"module.{name}": tensor + 1 for name, tensor in torch_weights().items()}
    running_mean = {f"_orig_mod.module.{name}": tensor for name, tensor in torch_weights().items()}
    content = {"epoch": 3, "arch": "crossvit_9_dagger_240", "version": 2, "metric": 77.1}
    content |= {"state_dict": last_step, "state_dict_ema": running_mean, "args": argparse.Namespace(lr=0.1)}
    content["optimizer"] = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict()
    torch.save(content, tmp_path / "model_best.pth.tar")  # timm's own name for it
    model = tiny.fresh_model()
    load_checkpoint(model, tmp_path / "model_best.pth.tar")
    assert_has_reference_weights(model)


def test_pth_beside_the_training_script_s_command_line_is_read(tmp_path):
    torch.save({"model": torch_weights(), "args": argparse.Namespace(lr=0.1, opt="adamw")}, tmp_path / "weights.pth")
    model = tiny.fresh_model()
    load_checkpoint(model, tmp_path / "weights.pth")
    assert_has_reference_weights(model)


def test_half_precision_pth_is_read(tmp_path):
    torch.save({name: tensor.bfloat16() for name, tensor in torch_weights().items()}, tmp_path / "weights.pth")
    model = tiny.fresh_model()
    load_checkpoint(model, tmp_path / "weights.pth")
    loaded, drawn = state_dict(model)["norm.0.weight"], tiny.reference_weights()["norm.0.weight"]
    np.testing.assert_allclose(loaded, drawn, rtol=2**-8)  # eight bits of mantissa


def test_safetensors_in_the_authors_spelling_are_read(tmp_path):
    save_file({name: tensor.numpy() for name, tensor in torch_weights("official").items()}, tmp_path / "w.safetensors")
    model = tiny.fresh_model()
    load_checkpoint(model, tmp_path / "w.safetensors")
    assert_has_reference_weights(model)


class Malice:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return (Path.touch, (self.proof,))


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_nothing_in_a_malicious_pickle_runs(write, tmp_path):
    proof = tmp_path / "it_ran"
    write({"model": torch_weights(), "more": Malice(proof)}, tmp_path / "weights.pth")
    model = tiny.fresh_model()
    before = state_dict(model)
    with pytest.raises(ValueError, match="weights") as raised:
        load_checkpoint(model, tmp_path / "weights.pth")
    assert "\n" not in str(raised.value)
    assert "weights_only" not in str(raised.value)  # PyTorch's own message tells how to run the file all the same
    assert not proof.exists()
    np.testing.assert_equal(state_dict(model), before)
    pickle.loads(pickle.dumps(Malice(proof)))  # the same bait, swallowed
    assert proof.exists()


def test_pth_without_pytorch_names_the_extra(tmp_path, monkeypatch):
    torch.save(torch_weights(), tmp_path / "weights.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r'pip install "keras_crossvit\[torch\]"'):
        load_checkpoint(tiny.fresh_model(), tmp_path / "weights.pth")


@pytest.mark.parametrize("suffix", FORMATS)
def test_broken_file_is_one_line_and_changes_nothing(suffix, tmp_path):
    path = tmp_path / f"broken{suffix}"
    save_checkpoint(tiny.reference_model(), path)
    path.write_bytes(path.read_bytes()[:3000])
    model = tiny.fresh_model()
    before = state_dict(model)
    with pytest.raises(ValueError, match="broken") as raised:
        load_checkpoint(model, path)
    assert "\n" not in str(raised.value)
    np.testing.assert_equal(state_dict(model), before)


def test_pth_that_holds_no_tensors_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="no mapping from names to tensors"):
        load_checkpoint(tiny.fresh_model(), tmp_path / "list.pth")


def test_keras_file_of_another_model_is_refused(tmp_path):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="holds a Sequential, no CrossViT"):
        load_checkpoint(tiny.fresh_model(), tmp_path / "other.keras")


@pytest.mark.parametrize("suffix", FORMATS)
def test_missing_file_is_named(suffix, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"nothing{suffix}"):
        load_checkpoint(tiny.fresh_model(), tmp_path / f"nothing{suffix}")


def test_unknown_suffix_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"\.safetensors, \.pth, \.pth\.tar, \.weights\.h5, \.keras"):
        load_checkpoint(tiny.fresh_model(), tmp_path / "weights.npz")


@pytest.mark.parametrize(
    ("content", "found"),
    [({}, "it is empty"), ({"conv1.weight": np.zeros(3), "fc.bias": np.zeros(2)}, "its first is conv1.weight")],
)
def test_weights_of_something_else_are_told_as_such(content, found):
    with pytest.raises(ValueError, match=rf"no tensor by a name of the model's \({found}\)"):
        load_checkpoint(tiny.fresh_model(), content)


@pytest.mark.parametrize("description", ["{broken", "[1]", '{"config": 3}', "{}"])
def test_damaged_description_in_a_safetensors_file_is_one_line(description, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(tiny.reference_weights(), path, metadata={"keras_crossvit": description})
    for load in (lambda: load_checkpoint(tiny.fresh_model(), path), lambda: load_model(path)):
        with pytest.raises(ValueError, match="metadata that are damaged") as refusal:
            load()
        assert "\n" not in str(refusal.value)


def test_other_architecture_lists_the_leftovers_and_changes_nothing():
    model = tiny.fresh_model("tiny_single_conv")
    before = state_dict(model)
    with pytest.raises(ValueError, match=r"missing: patch_embed\.1\.proj\.weight.*left over: patch_embed\.0\.proj\.0"):
        load_checkpoint(model, tiny.reference_weights("tiny_square"))
    np.testing.assert_equal(state_dict(model), before)
