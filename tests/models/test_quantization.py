"""Models whose weights Keras quantized."""

import warnings

import keras
import numpy as np
import pytest

from keras_crossvit import load_checkpoint, save_checkpoint, state_dict
from tests.helpers.backends import call
from tests.helpers.models import images, tiny


def quantize(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Keras warns of every layer that it does not quantize
        model.quantize("int8")


def test_quantized_model_computes_nearly_the_same_and_is_saved(tmp_path):
    original, model = (tiny() for _ in range(2))
    model.set_weights(original.get_weights())
    inputs = images(model)
    expected = call(original, inputs)  # the model is quantized without a call before
    quantize(model)
    quantized = call(model, inputs)
    error = np.sqrt(np.mean((quantized - expected) ** 2) / np.mean(expected**2))
    assert 0 < error < 0.05  # 8 bits, two roundings per product
    restored = model
    for file in ("first.keras", "second.keras"):  # a restored model can be saved again
        restored.save(tmp_path / file)
        restored = keras.saving.load_model(tmp_path / file)
        np.testing.assert_allclose(call(restored, inputs), quantized, atol=1e-6)
        assert restored.get_config() == model.get_config()


def test_half_precision_model_quantized_before_its_first_call_is_restored():
    model = tiny(dtype="mixed_bfloat16")
    quantize(model)
    restored = type(model).from_config(model.get_config())
    assert [each.shape for each in restored.weights] == [each.shape for each in model.weights]
    assert restored.get_layer("small_patch_head").quantization_mode == "int8"
    assert type(model).from_config(restored.get_config()).get_config() == model.get_config()


def test_checkpoints_of_quantized_models_are_refused(tmp_path):
    model = tiny()
    model.get_layer("small_patch_head").quantize("int8")
    with pytest.raises(ValueError, match=r"small_patch_head.*\.keras"):
        save_checkpoint(model, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="small_patch_head"):
        load_checkpoint(model, state_dict(tiny()))
