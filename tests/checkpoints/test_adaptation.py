import numpy as np
import pytest

from keras_crossvit import load_checkpoint, save_checkpoint, state_dict
from keras_crossvit.checkpoints.adaptation import (
    adapt_input_channels,
    resize_position_embedding,
)
from keras_crossvit.preprocessing.bicubic import antialiased_bicubic_weights
from tests.helpers import reference, tiny
from tests.helpers.weights import assert_refused

FORMATS = (".safetensors", ".pth", ".weights.h5", ".keras")
HEADS = {"head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias"}
POSITIONS = {"pos_embed_0", "pos_embed_1"}
STEMS = {"patch_embed.0.proj.0.weight", "patch_embed.1.proj.0.weight"}
OTHER_SIZE = ((48, 72), (64, 32))  # 4x6 patches of 12 and 4x2 of 16, from 4x4 and 2x2
GRIDS = {"up": ((20, 20), (34, 34)), "down": ((20, 20), (14, 14)), "non_square": ((14, 14), (10, 21))}


def assert_rest_is_kept(model, result, changed):
    loaded, saved = state_dict(model), tiny.reference_weights()
    assert set(result.kept) == saved.keys() - changed
    for name in result.kept:
        np.testing.assert_array_equal(loaded[name], saved[name], err_msg=name)


@pytest.mark.parametrize(
    ("overrides", "mismatch"),
    [
        ({"num_classes": 3}, "7 classes, the model's 3"),
        ({"num_classes": 0}, "7 classes, the model's 0"),
        ({"img_size": OTHER_SIZE}, "small_patch 4x4 to 4x6"),
        ({"in_channels": 1}, "3 channels, the model's 1"),
    ],
)
def test_mismatch_is_named_and_changes_nothing_without_adapt(overrides, mismatch):
    model = tiny.fresh_model(**overrides)
    before = state_dict(model)
    with pytest.raises(ValueError, match=rf"{mismatch}.*adapt=True") as raised:
        load_checkpoint(model, tiny.reference_weights())
    assert sum(word in str(raised.value) for word in ("classes", "patches", "channels")) == 1
    np.testing.assert_equal(state_dict(model), before)


def test_model_keeps_its_head_if_the_classes_differ():
    model = tiny.fresh_model(num_classes=3)
    before = state_dict(model)
    result = load_checkpoint(model, tiny.reference_weights(), adapt=True)
    assert_rest_is_kept(model, result, HEADS)
    after = state_dict(model)
    for name in HEADS:
        np.testing.assert_array_equal(after[name], before[name])
    assert len(result.adaptations) == 1
    assert "7 classes" in result.adaptations[0]
    assert "3 classes" in result.adaptations[0]


def test_backbone_loads_everything_except_the_head():
    model = tiny.fresh_model(num_classes=0)
    result = load_checkpoint(model, tiny.reference_weights(), adapt=True)
    assert_rest_is_kept(model, result, HEADS)
    tokens = tiny.output(model, reference.draw_images("tiny_square"))
    # A straightforward float32 port agrees to 3e-6; the rest is room for another order of summation.
    np.testing.assert_allclose(tokens, reference.arrays()["tiny_square/pre_logits_two_images"], rtol=0, atol=1e-5)


def test_backbone_weights_load_into_a_model_with_a_head():
    backbone = {name: array for name, array in tiny.reference_weights().items() if name not in HEADS}
    model = tiny.fresh_model()
    with pytest.raises(ValueError, match="adapt=True"):
        load_checkpoint(model, backbone)
    result = load_checkpoint(model, backbone, adapt=True)
    assert_rest_is_kept(model, result, HEADS)


def test_position_embeddings_are_resized_to_a_non_square_image():
    model = tiny.fresh_model(img_size=OTHER_SIZE)
    result = load_checkpoint(model, tiny.reference_weights(), adapt=True)
    assert_rest_is_kept(model, result, POSITIONS)
    for b, (grid, new_grid) in enumerate([((4, 4), (4, 6)), ((2, 2), (4, 2))]):
        name = f"pos_embed_{b}"
        wanted = resize_position_embedding(tiny.reference_weights()[name], grid, new_grid)
        np.testing.assert_array_equal(state_dict(model)[name], wanted)
    assert "small_patch 4x4 to 4x6" in result.adaptations[0]
    assert "large_patch 2x2 to 4x2" in result.adaptations[0]


@pytest.mark.parametrize("in_channels", [1, 2, 4, 5])
def test_first_convolutions_are_adapted_to_other_channels(in_channels):
    model = tiny.fresh_model(in_channels=in_channels)
    result = load_checkpoint(model, tiny.reference_weights(), adapt=True)
    assert_rest_is_kept(model, result, STEMS)
    for name in STEMS:
        wanted = adapt_input_channels(tiny.reference_weights()[name], in_channels)
        np.testing.assert_array_equal(state_dict(model)[name], wanted)


def test_gray_image_gets_the_logits_of_its_three_equal_channels():
    gray = [image[..., :1] for image in reference.draw_images("tiny_square")]
    model = tiny.fresh_model(in_channels=1)
    load_checkpoint(model, tiny.reference_weights(), adapt=True)
    wanted = tiny.output(tiny.reference_model(), [np.repeat(image, 3, axis=-1) for image in gray])
    np.testing.assert_allclose(tiny.output(model, gray), wanted, rtol=0, atol=1e-5)  # float32 sums


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_can_be_adapted_in_all_ways_at_once(suffix, tmp_path):
    save_checkpoint(tiny.reference_model(), tmp_path / f"model{suffix}")
    model = tiny.fresh_model(num_classes=3, in_channels=1, img_size=OTHER_SIZE)
    result = load_checkpoint(model, tmp_path / f"model{suffix}", adapt=True)
    assert_rest_is_kept(model, result, HEADS | POSITIONS | STEMS)
    assert len(str(result).splitlines()) == 1 + 3


def test_described_grid_is_resized_even_if_the_number_of_patches_is_equal(tmp_path):
    save_checkpoint(tiny.reference_model("tiny_non_square"), tmp_path / "model.safetensors")  # 8x4 and 4x2 patches
    model = tiny.fresh_model("tiny_non_square", img_size=((48, 96), (32, 64)))
    with pytest.raises(ValueError, match=r"small_patch 8x4 to 4x8.*large_patch 4x2 to 2x4"):
        load_checkpoint(model, tmp_path / "model.safetensors")
    load_checkpoint(model, tmp_path / "model.safetensors", adapt=True)
    wanted = resize_position_embedding(tiny.reference_weights("tiny_non_square")["pos_embed_0"], (8, 4), (4, 8))
    np.testing.assert_array_equal(state_dict(model)["pos_embed_0"], wanted)


def undescribed(model_name, suffix, folder):
    """Returns the reference weights without their grid of patches, in a mapping or a file."""
    if suffix is None:
        return tiny.reference_weights(model_name)
    save_checkpoint(tiny.reference_model(model_name), folder / f"model{suffix}")
    return folder / f"model{suffix}"


@pytest.mark.parametrize("suffix", [None, ".weights.h5"])
def test_undescribed_grid_that_is_not_square_is_refused(suffix, tmp_path):
    model = tiny.fresh_model("tiny_non_square", img_size=((48, 48), (32, 32)))
    with pytest.raises(ValueError, match="32 patches"):
        load_checkpoint(model, undescribed("tiny_non_square", suffix, tmp_path), adapt=True)


@pytest.mark.parametrize("suffix", [None, ".weights.h5"])
def test_undescribed_grid_is_taken_as_square_only_with_adapt(suffix, tmp_path):
    source = undescribed("tiny_square", suffix, tmp_path)
    oblong = {"img_size": ((24, 96), (32, 32))}  # 2x8 patches instead of 4x4
    model = tiny.fresh_model(**oblong)
    result = load_checkpoint(model, source)
    assert_rest_is_kept(model, result, set())
    result = load_checkpoint(model, source, adapt=True)
    assert "small_patch 4x4 to 2x8" in result.adaptations[0]


def test_adapt_changes_nothing_where_it_is_not_needed():
    model = tiny.fresh_model()
    result = load_checkpoint(model, tiny.reference_weights(), adapt=True)
    assert_rest_is_kept(model, result, set())
    assert result.adaptations == ()


def test_model_without_class_names_gets_those_of_the_loaded_head(tmp_path):
    names = tuple("abcdefg")
    save_checkpoint(tiny.reference_model(class_names=names), tmp_path / "model.safetensors")
    model, other = tiny.fresh_model(), tiny.fresh_model(num_classes=3)
    load_checkpoint(model, tmp_path / "model.safetensors")
    load_checkpoint(other, tmp_path / "model.safetensors", adapt=True)
    assert model.class_names == names
    assert other.class_names is None


def test_equal_number_of_classes_with_other_names_is_a_mismatch(tmp_path):
    save_checkpoint(tiny.reference_model(class_names=tuple("abcdefg")), tmp_path / "model.safetensors")
    model = tiny.fresh_model(class_names=tuple("hijklmn"))
    with pytest.raises(ValueError, match=r"7 classes.*adapt=True"):
        load_checkpoint(model, tmp_path / "model.safetensors")
    result = load_checkpoint(model, tmp_path / "model.safetensors", adapt=True)
    assert_rest_is_kept(model, result, HEADS)
    assert model.class_names == tuple("hijklmn")


@pytest.mark.parametrize("case", GRIDS)
def test_position_embeddings_equal_timm(case):
    given, wanted = (reference.surroundings()[f"pos_embed/{case}/{side}"] for side in ("in", "out"))
    resized = resize_position_embedding(given, *GRIDS[case])
    assert resized.dtype == np.float32
    # Rounding of float32: timm sums in float32, we in float64.
    np.testing.assert_allclose(resized, wanted, rtol=0, atol=1e-5)


def test_class_token_row_and_equal_grids_are_kept():
    given = reference.surroundings()["pos_embed/up/in"]
    np.testing.assert_array_equal(resize_position_embedding(given, (20, 20), (7, 30))[:, 0], given[:, 0])
    np.testing.assert_array_equal(resize_position_embedding(given, (20, 20), (20, 20)), given)


def test_transposed_grid_is_resized():
    given = np.random.RandomState(0).randn(1, 1 + 12, 2).astype("float32")
    assert not np.allclose(resize_position_embedding(given, (3, 4), (4, 3)), given)


@pytest.mark.parametrize(("source_size", "target_size"), [(20, 34), (34, 20), (1, 5), (5, 1)])
def test_constant_position_embeddings_stay_constant(source_size, target_size):
    weights = antialiased_bicubic_weights(source_size, target_size)
    np.testing.assert_allclose(weights @ np.ones(source_size), np.ones(target_size), rtol=1e-12)


@pytest.mark.parametrize("in_channels", [1, 2, 4, 5])
def test_first_convolutions_equal_timm(in_channels):
    adapted = adapt_input_channels(reference.surroundings()["stem/in"], in_channels)
    assert adapted.dtype == np.float32
    # Rounding of float32, in which the sum of three channels may be taken in another order.
    np.testing.assert_allclose(adapted, reference.surroundings()[f"stem/{in_channels}_channels"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("in_channels", [1, 6])
def test_images_with_equal_channels_get_the_same_response(in_channels):
    kernel = reference.surroundings()["stem/in"]
    adapted = adapt_input_channels(kernel, in_channels)
    np.testing.assert_allclose(adapted.sum(axis=1), kernel.sum(axis=1), rtol=0, atol=1e-5)  # float32 sums


@pytest.mark.parametrize("name", ["head.0.weight", "pos_embed_1", "patch_embed.0.proj.0.weight"])
@pytest.mark.parametrize("shape", [(), (0,), (1, 0), (1, 0, 2), (1, 1, 16), (2, 0, 7, 7)])
@pytest.mark.parametrize("adapt", [False, True])
def test_tensors_of_a_shape_that_no_crossvit_has_are_refused(name, shape, adapt):
    assert name in assert_refused({**tiny.reference_weights(), name: np.zeros(shape, "float32")}, adapt=adapt)
