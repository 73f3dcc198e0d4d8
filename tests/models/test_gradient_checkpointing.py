import keras
import numpy as np
import pytest

import keras_crossvit as kc
from tests.helpers.backends import gradient_function
from tests.helpers.models import images, tiny


@pytest.mark.backends
def test_gradients_equal_those_without_it():
    results = []
    for checkpointing in (False, True):
        keras.utils.set_random_seed(3)
        model = tiny(drop_path_rate=0.5, gradient_checkpointing=checkpointing)
        loss_of = lambda logits: keras.ops.mean(logits[:, 0] ** 2)  # noqa: E731
        results.append(gradient_function(model, images(model, batch=4), loss_of, training=True)())
    (loss, gradients), (other_loss, other_gradients) = results
    # XLA compiles two programs, which add up in other orders.
    assert other_loss == pytest.approx(loss, rel=1e-6 if keras.backend.backend() == "jax" else 0, abs=0)
    for path, gradient in gradients.items():
        # The same sums in another order where gradients of one variable are added up.
        np.testing.assert_allclose(other_gradients[path], gradient, rtol=1e-5, atol=1e-7, err_msg=path)


@pytest.mark.parametrize("drops", [{"drop_rate": 0.1}, {"attn_drop_rate": 0.1}])
def test_dropout_is_refused(drops):
    with pytest.raises(ValueError, match=r"gradient_checkpointing.* 0\.1"):
        tiny(gradient_checkpointing=True, **drops)


def test_training_recomputes_attention_and_mlp(monkeypatch):
    calls, remat = [], keras.remat
    monkeypatch.setattr(keras, "remat", lambda function: calls.append(function) or remat(function))
    model = tiny(depth=((1, 2, 0),))
    model.gradient_checkpointing = True
    model.compile("sgd", "mse", jit_compile=False)
    inputs = images(model)
    model.predict(inputs, verbose=0)
    assert not calls
    model.fit(inputs, np.zeros((2, 5)), verbose=0)
    assert len(calls) == 2 * 3


def test_files_load_with_and_without_it(tmp_path):
    model = tiny(gradient_checkpointing=True)
    for name in ("model.keras", "model.safetensors"):
        kc.save_checkpoint(model, tmp_path / name)
        assert kc.load_model(tmp_path / name).gradient_checkpointing
    plain = tiny()
    kc.load_checkpoint(plain, tmp_path / "model.keras")
    assert not plain.gradient_checkpointing
    config = model.get_config()
    del config["gradient_checkpointing"]
    assert not kc.CrossViT.from_config(config).gradient_checkpointing
