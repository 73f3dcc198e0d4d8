import math

import keras
import numpy as np
import pytest
import safetensors.numpy

from keras_crossvit._internal.errors import OperationError
from keras_crossvit.training.callbacks import BestModel, FiniteLoss, MetricsTable
from keras_crossvit.training.resume import Interval, ResumableState, fit_resumable
from keras_crossvit.training.state import StateFolder, callback_states, check_callback_states, restore_callback_states
from tests.helpers import training
from tests.helpers.models import tiny


def diverge(folder, step, *, interval, epochs=2, **validation):
    """Trains a model whose bias becomes NaN after a step, and returns the message of the error that follows."""
    resume = ResumableState(folder / "resume", interval=Interval(steps=interval))
    model = training.compiled_model(use_ema=False, ema_momentum=0.99, gradient_accumulation_steps=None)
    spoil = training.After(step, lambda: model.layers[-1].bias.assign([math.nan] * training.CLASSES))
    finite = FiniteLoss(
        resume, lambda epoch, batch: [f"{epoch}-{batch}-{i}.png" for i in range(4)], folder / "train.log"
    )
    with pytest.raises(OperationError) as raised:
        fit_resumable(model, training.batches, epochs=epochs, resume=resume, callbacks=[finite, spoil], **validation)
    message = str(raised.value)
    assert "\n" not in message
    assert "another output folder" in message
    return message


def test_a_run_that_diverges_names_step_images_and_last_state(tmp_path):
    message = diverge(tmp_path, 7, interval=5)
    assert "loss is nan in epoch 2, step 3, at learning rate 0.001" in message
    assert "The batch is 1-2-0.png, 1-2-1.png, 1-2-2.png and 1 more" in message
    (line,) = (tmp_path / "train.log").read_text().splitlines()
    assert line.endswith("epoch 2, step 3 · 1-2-0.png, 1-2-1.png, 1-2-2.png, 1-2-3.png")
    (state,) = (tmp_path / "resume").iterdir()
    assert state.name == "epoch-000001-batch-00000000.safetensors"
    assert f"The last state, '{state}', is intact" in message


@pytest.mark.parametrize(("step", "position"), [(2, "step 2 of epoch 1"), (10, "epoch 2")])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, step, position):
    message = diverge(tmp_path, step, interval=2)
    assert f"after {position}: dense" in message
    if step == 2:
        assert "There is no earlier state" in message
    for path in StateFolder(tmp_path / "resume").files():
        assert all(np.isfinite(array).all() for array in safetensors.numpy.load_file(path).values())


def test_a_validation_loss_that_is_not_finite_ends_the_run(tmp_path):
    message = diverge(tmp_path, training.STEPS, interval=100, validation_data=training.batches(99, 0))
    assert "validation loss is nan after epoch 1" in message


def test_the_first_epoch_is_the_best_until_a_metric_is_not_nan(tmp_path):
    model = tiny(3)
    best = BestModel(tmp_path / "best.keras", model, monitor="val_auc_pr", mode="max")
    best.on_epoch_end(0, {"val_auc_pr": math.nan})
    assert keras.saving.load_model(tmp_path / "best.keras").config == model.config
    assert best.best_epoch == 1
    for epoch, value, best_epoch in ((1, 0.5, 2), (2, math.nan, 2), (3, 0.4, 2), (4, 0.6, 5)):
        best.on_epoch_end(epoch, {"val_auc_pr": value})
        assert best.best_epoch == best_epoch


ROW = {"epoch": 1, "learning_rate": 0.1, "loss": 0.5, "val_auc_pr": math.nan, "seconds": 2.0, "images_per_second": 0.0}


@pytest.fixture
def callbacks(tmp_path):
    best = BestModel(tmp_path / "best.keras", tiny(3), monitor="loss", mode="min")
    return [MetricsTable(tmp_path / "metrics.csv", tmp_path / "logs", progress=None), best]


def stored(rows=(ROW, {**ROW, "epoch": 2}), **best):
    rows = list(rows) if isinstance(rows, tuple) else rows
    return {"MetricsTable-0": {"rows": rows}, "BestModel-0": {"best": 0.5, "best_epoch": 2, **best}}


def test_rows_and_best_epoch_are_restored(callbacks):
    check_callback_states(callback_states(callbacks), callbacks, 0)
    check_callback_states(stored(), callbacks, 2)
    restore_callback_states(stored(), callbacks)
    table, best = callbacks
    assert (table.rows, best.best, best.best_epoch) == (stored()["MetricsTable-0"]["rows"], 0.5, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("best_epoch", value) for value in (None, 0, 3, 1.0, True, "2", math.nan, [2])),
        *(("best", value) for value in (None, math.nan, 1, "0.5", [], 10**400)),
        *(("rows", value) for value in ([], [ROW], [ROW] * 3, [ROW] * 2, {}, "rows", None, [ROW, None], [ROW, []])),
        *(
            ("rows", [ROW, {**ROW, "epoch": 2, **change}])
            for change in (
                {"$(touch RAN)": 0.5},
                {"<b>accuracy": 0.5},
                {"another": 0.5},
                {"epoch": 2.0},
                {"epoch": True},
                {"loss": "0.5"},
                {"loss": 1},
                {"loss": None},
                {"seconds": math.nan},
                {"seconds": math.inf},
                {"seconds": -1.0},
                {"images_per_second": math.inf},
            )
        ),
        ("rows", [{**ROW, "epoch": number, "=1+1": 0.5} for number in (1, 2)]),
        ("rows", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.5}]),
    ],
)
def test_impossible_rows_and_best_epochs_are_refused(name, value, callbacks):
    with pytest.raises(ValueError, match=f"^{name} of"):
        check_callback_states(stored(**{name: value}), callbacks, 2)
