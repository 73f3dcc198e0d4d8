import numpy as np
import pytest

from keras_crossvit import load_checkpoint, save_checkpoint, state_dict
from keras_crossvit.checkpoints.adaptation import adapt_input_channels, resize_position_embedding
from tests.helpers import reference, tiny

FORMATS = (".safetensors", ".pth", ".weights.h5", ".keras")
HEADS = {"head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias"}
POSITIONS = {"pos_embed_0", "pos_embed_1"}
STEMS = {"patch_embed.0.proj.0.weight", "patch_embed.1.proj.0.weight"}
OTHER_SIZE = ((48, 72), (64, 32))  # 4x6 patches of 12 and 4x2 of 16, from 4x4 and 2x2


def assert_rest_is_kept(model, report, changed):
    held, drawn = state_dict(model), tiny.reference_weights()
    assert set(report.kept) == drawn.keys() - changed
    for name in report.kept:
        np.testing.assert_array_equal(held[name], drawn[name], err_msg=name)


@pytest.mark.parametrize(
    ("overrides", "keyword"),
    [
        ({"num_classes": 3}, "adapt_head=True"),
        ({"num_classes": 0}, "adapt_head=True"),
        ({"img_size": OTHER_SIZE}, "adapt_positions=True"),
        ({"in_channels": 1}, "adapt_channels=True"),
    ],
)
def test_mismatch_without_the_keyword_names_it_and_changes_nothing(overrides, keyword):
    model = tiny.fresh_model(**overrides)
    before = state_dict(model)
    with pytest.raises(ValueError, match=keyword) as raised:
        load_checkpoint(model, tiny.reference_weights())
    others = {"adapt_head=True", "adapt_positions=True", "adapt_channels=True"} - {keyword}
    assert not any(other in str(raised.value) for other in others)
    np.testing.assert_equal(state_dict(model), before)


def test_head_of_other_classes_stays_the_model_s_own():
    model = tiny.fresh_model(num_classes=3)
    own = {name: state_dict(model)[name] for name in HEADS}
    report = load_checkpoint(model, tiny.reference_weights(), adapt_head=True)
    assert_rest_is_kept(model, report, HEADS)
    for name, array in own.items():
        np.testing.assert_array_equal(state_dict(model)[name], array)
    assert len(report.adaptations) == 1
    assert "7 classes" in report.adaptations[0]
    assert "3 classes" in report.adaptations[0]


def test_backbone_takes_all_but_the_head():
    model = tiny.fresh_model(num_classes=0)
    report = load_checkpoint(model, tiny.reference_weights(), adapt_head=True)
    assert_rest_is_kept(model, report, HEADS)
    tokens = tiny.output(model, reference.draw_images("tiny_square"))
    # A straightforward float32 port agrees to 3e-6; the rest is room for another order of summation.
    np.testing.assert_allclose(tokens, reference.arrays()["tiny_square/pre_logits_two_images"], rtol=0, atol=1e-5)


def test_backbone_s_weights_go_under_a_head():
    backbone = {name: array for name, array in tiny.reference_weights().items() if name not in HEADS}
    model = tiny.fresh_model()
    with pytest.raises(ValueError, match="adapt_head=True"):
        load_checkpoint(model, backbone)
    report = load_checkpoint(model, backbone, adapt_head=True)
    assert_rest_is_kept(model, report, HEADS)


def test_position_embeddings_are_resized_to_a_non_square_image():
    model = tiny.fresh_model(img_size=OTHER_SIZE)
    report = load_checkpoint(model, tiny.reference_weights(), adapt_positions=True)
    assert_rest_is_kept(model, report, POSITIONS)
    for b, (grid, new_grid) in enumerate([((4, 4), (4, 6)), ((2, 2), (4, 2))]):
        name = f"pos_embed_{b}"
        wanted = resize_position_embedding(tiny.reference_weights()[name], grid, new_grid)
        np.testing.assert_array_equal(state_dict(model)[name], wanted)
    assert report.adaptations == ("Position embeddings resized: small_patch 4x4 to 4x6, large_patch 2x2 to 4x2.",)


@pytest.mark.parametrize("in_channels", [1, 2, 4, 5])
def test_first_convolutions_take_other_channels(in_channels):
    model = tiny.fresh_model(in_channels=in_channels)
    report = load_checkpoint(model, tiny.reference_weights(), adapt_channels=True)
    assert_rest_is_kept(model, report, STEMS)
    for name in STEMS:
        wanted = adapt_input_channels(tiny.reference_weights()[name], in_channels)
        np.testing.assert_array_equal(state_dict(model)[name], wanted)


def test_gray_image_gets_the_logits_of_its_three_equal_channels():
    gray = [image[..., :1] for image in reference.draw_images("tiny_square")]
    model = tiny.fresh_model(in_channels=1)
    load_checkpoint(model, tiny.reference_weights(), adapt_channels=True)
    wanted = tiny.output(tiny.reference_model(), [np.repeat(image, 3, axis=-1) for image in gray])
    np.testing.assert_allclose(tiny.output(model, gray), wanted, rtol=0, atol=1e-5)  # float32 sums


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_can_be_adapted_in_all_ways_at_once(suffix, tmp_path):
    save_checkpoint(tiny.reference_model(), tmp_path / f"model{suffix}")
    model = tiny.fresh_model(num_classes=3, in_channels=1, img_size=OTHER_SIZE)
    report = load_checkpoint(
        model, tmp_path / f"model{suffix}", adapt_head=True, adapt_positions=True, adapt_channels=True
    )
    assert_rest_is_kept(model, report, HEADS | POSITIONS | STEMS)
    assert len(str(report).splitlines()) == 1 + 3


def test_described_grid_is_resized_where_the_number_of_patches_is_the_same(tmp_path):
    save_checkpoint(tiny.reference_model("tiny_non_square"), tmp_path / "model.safetensors")  # 8x4 and 4x2 patches
    model = tiny.fresh_model("tiny_non_square", img_size=((48, 96), (32, 64)))
    with pytest.raises(ValueError, match="small_patch 8x4 to 4x8, large_patch 4x2 to 2x4"):
        load_checkpoint(model, tmp_path / "model.safetensors")
    load_checkpoint(model, tmp_path / "model.safetensors", adapt_positions=True)
    wanted = resize_position_embedding(tiny.reference_weights("tiny_non_square")["pos_embed_0"], (8, 4), (4, 8))
    np.testing.assert_array_equal(state_dict(model)["pos_embed_0"], wanted)


def undescribed(model_name, suffix, folder):
    """The drawn weights as what does not say its grid of patches: a mapping, or a file of this suffix."""
    if suffix is None:
        return tiny.reference_weights(model_name)
    save_checkpoint(tiny.reference_model(model_name), folder / f"model{suffix}")
    return folder / f"model{suffix}"


@pytest.mark.parametrize("suffix", [None, ".weights.h5"])
def test_undescribed_grid_that_is_no_square_is_refused(suffix, tmp_path):
    model = tiny.fresh_model("tiny_non_square", img_size=((48, 48), (32, 32)))
    with pytest.raises(ValueError, match="32 patches, which are no square"):
        load_checkpoint(model, undescribed("tiny_non_square", suffix, tmp_path), adapt_positions=True)


@pytest.mark.parametrize("suffix", [None, ".weights.h5"])
def test_undescribed_grid_of_as_many_patches_is_a_square_if_positions_are_to_be_adapted(suffix, tmp_path):
    source = undescribed("tiny_square", suffix, tmp_path)
    oblong = {"img_size": ((24, 96), (32, 32))}  # 2x8 patches where the drawn weights have 4x4
    model = tiny.fresh_model(**oblong)
    report = load_checkpoint(model, source)
    assert_rest_is_kept(model, report, set())
    report = load_checkpoint(model, source, adapt_positions=True)
    assert report.adaptations == ("Position embeddings resized: small_patch 4x4 to 2x8.",)


def test_keywords_that_are_not_needed_change_nothing():
    model = tiny.fresh_model()
    report = load_checkpoint(
        model, tiny.reference_weights(), adapt_head=True, adapt_positions=True, adapt_channels=True
    )
    assert_rest_is_kept(model, report, set())
    assert report.adaptations == ()


def test_model_without_names_takes_those_of_the_head_it_loads(tmp_path):
    names = tuple("abcdefg")
    save_checkpoint(tiny.reference_model(class_names=names), tmp_path / "model.safetensors")
    model, other = tiny.fresh_model(), tiny.fresh_model(num_classes=3)
    load_checkpoint(model, tmp_path / "model.safetensors")
    load_checkpoint(other, tmp_path / "model.safetensors", adapt_head=True)
    assert model.class_names == names
    assert other.class_names is None


def test_head_of_as_many_classes_by_other_names_is_no_match(tmp_path):
    save_checkpoint(tiny.reference_model(class_names=tuple("abcdefg")), tmp_path / "model.safetensors")
    model = tiny.fresh_model(class_names=tuple("hijklmn"))
    with pytest.raises(ValueError, match="7 classes have other names"):
        load_checkpoint(model, tmp_path / "model.safetensors")
    report = load_checkpoint(model, tmp_path / "model.safetensors", adapt_head=True)
    assert_rest_is_kept(model, report, HEADS)
    assert model.class_names == tuple("hijklmn")
