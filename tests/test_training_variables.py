"""A step of plain `fit` is traced once."""

import keras
import numpy as np
import pytest

from keras_crossvit.training_variables import target_of_loss
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
