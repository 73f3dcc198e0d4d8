import argparse

import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_crossvit import checkpoints, create_model, load_model, save_checkpoint, state_dict
from keras_crossvit.cli import convert
from tests.helpers import reference, tiny


def convert_by(*arguments):
    parser = argparse.ArgumentParser()
    convert.add_arguments(parser)
    convert.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.mark.parametrize(
    ("suffix", "other_suffix"), [(".keras", ".pth"), (".safetensors", ".keras"), (".safetensors", ".weights.h5")]
)
def test_files_that_describe_their_model_are_converted_by_suffix(suffix, other_suffix, tmp_path, capsys):
    save_checkpoint(tiny.reference_model(class_names=tuple("abcdefg")), tmp_path / f"in{suffix}")
    convert_by(tmp_path / f"in{suffix}", tmp_path / f"out{other_suffix}")
    assert "7 classes" in capsys.readouterr().out
    report = tiny.fresh_model(weights=tmp_path / f"out{other_suffix}")
    np.testing.assert_equal(state_dict(report), tiny.reference_weights())


def test_class_names_are_kept(tmp_path):
    save_checkpoint(tiny.reference_model(class_names=tuple("abcdefg")), tmp_path / "in.safetensors")
    convert_by(tmp_path / "in.safetensors", tmp_path / "out.keras")
    assert load_model(tmp_path / "out.keras").class_names == tuple("abcdefg")


@pytest.mark.parametrize("suffix", [".pth", ".weights.h5"])
def test_other_files_are_converted_with_a_model_name(suffix, tmp_path, capsys):
    model = create_model("crossvit_9", 5)
    save_checkpoint(model, tmp_path / f"in{suffix}")
    convert_by(tmp_path / f"in{suffix}", tmp_path / "out.safetensors", "--model", "crossvit_9")
    assert "crossvit_9" in capsys.readouterr().out
    converted = load_model(tmp_path / "out.safetensors")
    assert converted.config == model.config
    np.testing.assert_equal(state_dict(converted), state_dict(model))


def test_other_files_without_a_model_name_are_refused(tmp_path):
    save_file(tiny.reference_weights(), tmp_path / "in.safetensors")
    with pytest.raises(ValueError, match="--model"):
        convert_by(tmp_path / "in.safetensors", tmp_path / "out.keras")


def test_weights_from_the_hub_are_converted(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    fetched = []

    def fetch(timm_name):
        fetched.append(timm_name)
        return tmp_path / "cached.safetensors"

    weights = reference.draw_weights("crossvit_9_240")
    save_file(weights, tmp_path / "cached.safetensors")
    monkeypatch.setattr(checkpoints, "fetch_imagenet_weights", fetch)
    convert_by("crossvit_9", tmp_path / "out.pth", "--from-hub")
    assert fetched == ["crossvit_9_240"]
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    np.testing.assert_equal({name: tensor.numpy() for name, tensor in content.items()}, weights)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("in.safetensors", "out.bin"), "ends in none of"),
        (("in.npz", "out.keras"), "ends in none of"),
        (("crossvit_99", "out.keras", "--from-hub"), "There is no model 'crossvit_99'; did you mean"),
        (("crossvit_9", "out.keras", "--from-hub", "--model", "crossvit_9"), "--model crossvit"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as raised:
        convert_by(*arguments)
    assert "\n" not in str(raised.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        convert_by(tmp_path / "nothing.pth", tmp_path / "out.keras")
