import math

import keras
import pytest

from keras_crossvit.training.recording import BestModel, FiniteLoss
from keras_crossvit.training.resuming import ExactResume, fit_exactly
from tests.helpers import training
from tests.helpers.models import tiny


def test_a_run_that_diverges_ends_with_one_line_and_leaves_the_last_state(tmp_path):
    resume = ExactResume(tmp_path)
    model = training.compiled_model(use_ema=False, ema_momentum=0.99, gradient_accumulation_steps=None)
    spoil = training.After(2, lambda: model.layers[-1].bias.assign([math.nan] * training.CLASSES))
    with pytest.raises(RuntimeError, match=r"loss is nan in epoch 1, step 3, at a learning rate of 0\.001") as raised:
        fit_exactly(model, training.batches, epochs=1, resume=resume, callbacks=[FiniteLoss(resume), spoil])
    assert "smaller learning_rate" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_first_epoch_is_the_best_until_one_can_be_compared(tmp_path):
    model = tiny(3, depth=((1, 1, 0),))
    best = BestModel(tmp_path / "best.keras", model, monitor="val_auc_pr", mode="max")
    best.on_epoch_end(0, {"val_auc_pr": math.nan})
    assert keras.saving.load_model(tmp_path / "best.keras").config == model.config
    assert best.best_epoch == 1
    for epoch, value, best_epoch in ((1, 0.5, 2), (2, math.nan, 2), (3, 0.4, 2), (4, 0.6, 5)):
        best.on_epoch_end(epoch, {"val_auc_pr": value})
        assert best.best_epoch == best_epoch
