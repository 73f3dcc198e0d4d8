import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_crossvit import create_model, load_model, save_checkpoint, state_dict
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


def test_model_functions_adapt_weights_and_log_it(tmp_path, caplog):
    save_checkpoint(create_model("crossvit_9", 5, img_size=(96, 80)), tmp_path / "model.safetensors")
    arguments = {"num_classes": 3, "img_size": (96, 112), "weights": tmp_path / "model.safetensors"}
    with pytest.raises(ValueError, match=r"adapt_head=True.*adapt_positions=True"):
        create_model("crossvit_9", **arguments)
    caplog.set_level("INFO", "keras_crossvit")
    model = create_model("crossvit_9", **arguments, adapt_head=True, adapt_positions=True)
    assert model.config.num_classes == 3
    head, positions = caplog.messages
    assert "5 classes" in head
    assert "large_patch 5x5 to 7x7" in positions
