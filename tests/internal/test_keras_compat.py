"""A step of plain `fit` is traced once."""

import contextlib

import keras
import numpy as np
import pytest

from keras_crossvit._internal.keras_compat import target_of_loss
from tests.helpers.models import images, tiny

LOSSES = keras.losses
LABELS = np.arange(4) % 3


def _traces_of_fit(monkeypatch, loss, targets, **arguments):
    model = tiny(num_classes=3, depth=((1, 1, 0),))
    traces, train_step = [], model.train_step
    monkeypatch.setattr(model, "train_step", lambda data: traces.append(0) or train_step(data))
    model.compile("adam", loss, jit_compile=False, **arguments)
    fitted = model.fit(images(model, batch=4), targets, batch_size=2, epochs=2, verbose=0)
    assert all(np.isfinite(values).all() for values in fitted.history.values())
    return len(traces), fitted.history


def _first_column(target, logits):
    """A metric that takes no targets without a second axis."""
    return target[:, 0]


@pytest.mark.parametrize(
    ("loss", "targets", "metrics"),
    [
        (LOSSES.SparseCategoricalCrossentropy(from_logits=True), LABELS, ["accuracy"]),
        ("sparse_categorical_crossentropy", LABELS[:, None], ["accuracy", _first_column]),
        (LOSSES.CategoricalCrossentropy(name="named"), np.eye(3, dtype="float32")[LABELS], ["accuracy", _first_column]),
    ],
)
def test_losses_of_classes_need_one_trace(monkeypatch, loss, targets, metrics):
    traces, history = _traces_of_fit(monkeypatch, loss, targets, metrics=metrics)
    assert traces == 1
    assert len(history) == 1 + len(metrics)


def test_targets_are_as_the_loss_takes_them():
    output = keras.Input((3,))
    assert target_of_loss(LOSSES.sparse_categorical_crossentropy, output).shape == (1,)
    assert target_of_loss("binary_crossentropy", output).shape == (1, 3)
    assert target_of_loss(LOSSES.CategoricalFocalCrossentropy(), output).shape == (1, 3)
    for unknown in (LOSSES.Huber(), lambda target, logits: 0.0, ["mse"], None):
        assert target_of_loss(unknown, output) is None


@pytest.mark.parametrize("loss", [LOSSES.SparseCategoricalCrossentropy(from_logits=True), LOSSES.MeanSquaredError()])
@pytest.mark.parametrize("fit_inside", [False, True])
def test_a_model_made_outside_the_scope_of_its_strategy_fails_as_keras_own_do(fit_inside, loss):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = tiny(num_classes=3, depth=((1, 1, 0),))
    reasons = []
    for each, inputs in ((plain, np.zeros((4, 4), "float32")), (model, images(model, batch=4))):
        with strategy.scope():
            each.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
        scope = strategy.scope() if fit_inside else contextlib.nullcontext()
        with pytest.raises((RuntimeError, ValueError)) as error, scope:
            each.fit(inputs, LABELS, verbose=0)
        reasons.append((error.type, str(error.value).split("strategy")[0].split("not: ")[0]))
    assert reasons[0] == reasons[1]
    assert "scope()" in str(error.value)


def test_what_a_metric_raises_is_raised_once_and_only_for_real_targets():
    def strict(target, logits):
        assert target.shape[0] == 4, "a batch that was made up"
        raise ZeroDivisionError("of the metric")

    model = tiny(num_classes=3, depth=((1, 1, 0),))
    model.compile("adam", LOSSES.SparseCategoricalCrossentropy(from_logits=True), metrics=[strict], run_eagerly=True)
    with pytest.raises(ZeroDivisionError, match="of the metric"):
        model.fit(images(model, batch=4), LABELS, verbose=0)
