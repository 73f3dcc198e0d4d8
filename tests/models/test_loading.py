import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_crossvit import build_crossvit, create_model, load_model, save_checkpoint, state_dict
from tests.helpers import reference, tiny


@pytest.mark.parametrize("suffix", [".safetensors", ".keras"])
def test_file_that_describes_its_model_restores_it(suffix, tmp_path):
    model = tiny.reference_model("tiny_avg_pool", class_names=tuple("abcdefg"))
    save_checkpoint(model, tmp_path / f"model{suffix}")
    restored = load_model(tmp_path / f"model{suffix}")
    assert restored.get_config() == model.get_config()
    assert restored.class_names == tuple("abcdefg")
    np.testing.assert_equal(state_dict(restored), state_dict(model))
    images = reference.draw_images("tiny_avg_pool")
    np.testing.assert_array_equal(tiny.output(restored, images), tiny.output(model, images))


def test_file_without_a_description_needs_the_variant(tmp_path):
    save_file(tiny.reference_weights(), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"variant.*keras-crossvit convert"):
        load_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize("suffix", [".pth", ".weights.h5"])
def test_classes_channels_and_size_of_a_variant_are_read_from_the_shapes(suffix, tmp_path):
    model = create_model("crossvit_9", 5, in_channels=1, img_size=(96, 80))
    save_checkpoint(model, tmp_path / f"model{suffix}")
    restored = load_model(tmp_path / f"model{suffix}", variant="crossvit_9")
    assert restored.config == model.config
    np.testing.assert_equal(state_dict(restored), state_dict(model))


def test_another_variant_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"head.0.weight": torch.zeros(2, 2)}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="missing"):
        load_model(tmp_path / "model.pth", variant="crossvit_9")


@pytest.fixture(scope="module")
def five_classes(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "five_classes.safetensors"
    save_checkpoint(create_model("crossvit_9", 5, img_size=(96, 80), class_names=tuple("abcde")), path)
    return path


def test_model_functions_adapt_weights_to_what_is_asked_for_and_log_one_line(five_classes, caplog):
    asked = {"num_classes": 3, "img_size": (96, 112), "in_channels": 1, "weights": five_classes}
    model = create_model("crossvit_9", **asked)
    assert model.config.num_classes == 3
    (line,) = caplog.messages
    for part in ("5 classes", "3 classes", "large_patch 5x5 to 7x7", "3 to 1 image channels", str(five_classes)):
        assert part in line
    with pytest.raises(ValueError, match=r"5 classes, the model's 3.*5x5 to 7x7.*adapt=True"):
        create_model("crossvit_9", **asked, adapt=False)
    assert build_crossvit(model.config, weights=five_classes).class_names is None
    assert caplog.messages == [line, line]


def test_weights_that_differ_from_what_is_not_given_are_refused_without_adapt(five_classes, caplog):
    with pytest.raises(ValueError, match=r"5 classes, the model's 1000.*adapt=True"):
        create_model("crossvit_9", img_size=(96, 80), weights=five_classes)
    with pytest.raises(ValueError, match="large_patch 5x5 to 14x14"):
        create_model("crossvit_9", num_classes=5, weights=five_classes)
    assert not caplog.messages
    model = create_model("crossvit_9", weights=five_classes, adapt=True)
    assert model.config.num_classes == 1000
    named = create_model("crossvit_9", 5, img_size=(96, 80), class_names=tuple("vwxyz"), weights=five_classes)
    assert named.class_names == tuple("vwxyz")
    assert "other names" in caplog.messages[1]
