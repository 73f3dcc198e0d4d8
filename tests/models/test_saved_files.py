"""Files of Keras and TensorFlow have all variables, and earlier ones still load."""

import tarfile

import keras
import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.training import finetuning
from tests.helpers.models import images, tiny
from tests.helpers.reference import FIXTURES

# Files by stem, of a model with two rounds of cross-attention, written when sublayers were in lists.
EARLIER = {
    "num_classes": 2,
    "img_size": (24, 32),
    "in_channels": 1,
    "embed_dim": (4, 8),
    "depth": ((1, 1, 2),),
    "num_heads": (2, 2),
    "mlp_ratio": (1, 1, 1),
}
TWO_ROUNDS = {"num_classes": 3, "depth": ((1, 1, 2), (1, 1, 1))}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def earlier_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(FIXTURES / "keras_files.tar.xz") as archive:
        for member in archive:
            (folder / member.name).write_bytes(archive.extractfile(member).read())
    return folder


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize("stem", ["single_conv", "multi_conv"])
def test_earlier_files_load(earlier_files, stem, suffix):
    if suffix == ".keras":
        model = keras.saving.load_model(earlier_files / f"{stem}.keras")
        assert model.compiled == (stem == "multi_conv")
    else:
        model = kc.crossvit_9(multi_conv=stem == "multi_conv", **EARLIER)
        model.load_weights(earlier_files / f"{stem}.weights.h5")
    inputs = [
        np.linspace(-2, 2, 2 * np.prod(each.shape[1:]), dtype="float32").reshape(2, *each.shape[1:])[:, ::-1]
        for each in model.inputs
    ]
    expected = np.load(earlier_files / f"{stem}.npy")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(inputs)), expected, rtol=0, atol=1e-5)  # float32 sums


def _unchanged(model):
    return model


def _with_lora(model):
    finetuning.enable_lora(model, 2)
    return model


def _quantized(model):
    model.quantize("int8", filters=lambda layer: isinstance(layer, keras.layers.Dense))
    return model


@pytest.mark.parametrize("form", [_unchanged, _with_lora, _quantized, kc.single_image, kc.feature_extractor])
def test_tensorflow_checkpoints_have_every_weight(form, tmp_path):
    import tensorflow as tf

    model, fresh = form(tiny(**TWO_ROUNDS)), form(tiny(**TWO_ROUNDS))
    path = tf.train.Checkpoint(model=model).save(tmp_path / "model")
    assert len(tf.train.list_variables(path)) >= len(model.weights)
    tf.train.Checkpoint(model=fresh).restore(path).assert_consumed()
    for restored, saved in zip(fresh.weights, model.weights, strict=True):
        np.testing.assert_array_equal(restored.numpy(), saved.numpy(), err_msg=saved.path)
    inputs = images(model)
    for one, other in zip(*(keras.tree.flatten(each(inputs)) for each in (fresh, model)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("wrap", [_unchanged, keras.optimizers.LossScaleOptimizer])
def test_tensorflow_checkpoints_have_the_state_of_layer_wise_optimizers(wrap, tmp_path):
    import tensorflow as tf

    def compiled():
        model = tiny(num_classes=3)
        model.compile(wrap(finetuning.layer_wise_optimizer(model, keras.optimizers.Adam(0.1))), LOSS, run_eagerly=True)
        return model

    model, fresh = compiled(), compiled()
    model.fit(images(model), np.array([0, 2]), verbose=0)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(tmp_path / "model")
    fresh.optimizer.build(fresh.trainable_variables)
    tf.train.Checkpoint(model=fresh, optimizer=fresh.optimizer).restore(path).expect_partial()
    for restored, saved in zip(fresh.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(restored.numpy(), saved.numpy(), err_msg=saved.path)
