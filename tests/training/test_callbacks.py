import math

import keras
import pytest

from keras_crossvit.training.callbacks import BestModel, FiniteLoss, MetricsTable
from keras_crossvit.training.resume import ResumableState, fit_resumable
from keras_crossvit.training.state import callback_states, check_callback_states, restore_callback_states
from tests.helpers import training
from tests.helpers.models import tiny


def test_a_run_that_diverges_stops_with_one_line(tmp_path):
    resume = ResumableState(tmp_path)
    model = training.compiled_model(use_ema=False, ema_momentum=0.99, gradient_accumulation_steps=None)
    spoil = training.After(2, lambda: model.layers[-1].bias.assign([math.nan] * training.CLASSES))
    with pytest.raises(RuntimeError, match=r"loss is nan in epoch 1, step 3, at learning rate 0\.001") as raised:
        fit_resumable(model, training.batches, epochs=1, resume=resume, callbacks=[FiniteLoss(resume), spoil])
    assert "\n" not in str(raised.value)


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
