import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_crossvit import load_checkpoint, load_model, save_checkpoint
from tests.helpers import reference, tiny
from tests.helpers.weights import (
    assert_has_reference_weights,
    assert_refused,
    blank_model,
    saved_reference,
    torch_weights,
    written,
)

FORMATS = (".safetensors", ".pth", ".weights.h5", ".keras")


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
def test_every_format_restores_the_saved_weights(suffix, model_name, tmp_path):
    save_checkpoint(tiny.reference_model(model_name), tmp_path / f"model{suffix}")
    model = tiny.fresh_model(model_name)
    result = load_checkpoint(model, tmp_path / f"model{suffix}")
    assert_has_reference_weights(model, model_name)
    assert set(result.kept) == tiny.reference_weights(model_name).keys()
    assert result.adaptations == ()


def test_loaded_model_equals_the_reference(tmp_path):
    written(torch_weights("official"), ".pth", tmp_path)
    model = tiny.fresh_model()
    load_checkpoint(model, tmp_path / "weights.pth")
    logits = tiny.output(model, reference.draw_images("tiny_square"))
    # A straightforward float32 port agrees to 3e-6; the rest is room for another order of summation.
    np.testing.assert_allclose(logits, reference.arrays()["tiny_square/logits_two_images"], rtol=0, atol=1e-5)


def test_run_folder_gives_the_weights_of_its_best_model(tmp_path):
    save_checkpoint(tiny.reference_model(), tmp_path / "best.keras")
    model = blank_model()
    load_checkpoint(model, tmp_path)
    assert_has_reference_weights(model)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kept", [0, 9, 0.3, 0.97])
def test_truncated_files_change_nothing(suffix, kept, tmp_path):
    path = saved_reference(suffix, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    assert path.name in assert_refused(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files_load_completely_or_change_nothing(suffix, tmp_path):
    path = saved_reference(suffix, tmp_path)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for position in random.integers(0, len(content), 5):
        damage = random.bytes(64)
        path.write_bytes(content[:position] + damage + content[position + len(damage) :])
        try:  # without a checksum, a damaged number loads as another
            load_checkpoint(blank_model(), path, allow_nonfinite=True)
        except ValueError:
            assert_refused(path, allow_nonfinite=True)


@pytest.mark.parametrize("suffix", FORMATS)
def test_missing_file_is_named(suffix, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"nothing{suffix}"):
        load_checkpoint(blank_model(), tmp_path / f"nothing{suffix}")


def test_unknown_suffix_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"\.safetensors, \.pth, \.pth\.tar, \.weights\.h5, \.keras"):
        load_checkpoint(blank_model(), tmp_path / "weights.npz")


@pytest.mark.parametrize(
    ("content", "found"),
    [({}, "empty"), ({"conv1.weight": np.zeros(3), "fc.bias": np.zeros(2)}, r"conv1\.weight")],
)
def test_weights_of_another_model_are_refused(content, found):
    with pytest.raises(ValueError, match=found):
        load_checkpoint(blank_model(), content)


@pytest.mark.parametrize("description", ["{broken", "[1]", '{"config": 3}', "{}"])
def test_damaged_metadata_of_safetensors_is_refused(description, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(tiny.reference_weights(), path, metadata={"keras_crossvit": description})
    for load in (lambda: load_checkpoint(blank_model(), path), lambda: load_model(path)):
        with pytest.raises(ValueError, match="metadata") as refusal:
            load()
        assert "\n" not in str(refusal.value)


def test_other_architecture_lists_what_does_not_fit_and_changes_nothing():
    message = assert_refused(tiny.reference_weights("tiny_square"), tiny.fresh_model("tiny_single_conv"))
    missing, left_over = message.split("left over")
    assert "patch_embed.1.proj.weight" in missing
    assert "patch_embed.0.proj.0" in left_over
