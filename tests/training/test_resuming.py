"""A run that is stopped and taken up again ends with the weights of one that was never stopped, bit for bit."""

import random
import signal

import keras
import numpy as np
import pytest

from keras_crossvit.training.resuming import ExactResume
from keras_crossvit.training.state import Position, StateFolder
from tests.helpers import training
from tests.helpers.processes import run_python


class Figures(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append(dict(logs))


class Interrupt(keras.callbacks.Callback):
    def __init__(self, *, epoch):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._epoch:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    figures = Figures()
    return training.run(tmp_path_factory.mktemp("whole"), figures), figures.rows


def assert_same_run(model, uninterrupted):
    for resumed, whole in zip(model.variables, uninterrupted.variables, strict=True):
        np.testing.assert_array_equal(resumed, whole, err_msg=whole.path)
    for resumed, whole in zip(model.optimizer.variables, uninterrupted.optimizer.variables, strict=True):
        np.testing.assert_array_equal(resumed, whole, err_msg=whole.path)


def test_killed_at_a_random_step_a_crossvit_goes_on_exactly(tmp_path):
    step = random.SystemRandom().randint(1, training.EPOCHS * training.STEPS)
    done = run_python("-m", "tests.helpers.training", tmp_path / "killed", step, "SIGKILL", check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed, whole = (
        training.run(folder, model=training.compiled_model(crossvit=True))
        for folder in (tmp_path / "killed", tmp_path / "whole")
    )
    assert_same_run(resumed, whole)


@pytest.mark.parametrize("step", [1, 7, 10])
def test_interrupted_after_any_step_it_goes_on_from_there_exactly(tmp_path, uninterrupted, step):
    figures = Figures()
    with pytest.raises(KeyboardInterrupt):
        training.run(tmp_path, figures, training.After(step, lambda: signal.raise_signal(signal.SIGINT)), every=100)
    position, _, _ = StateFolder(tmp_path).newest()
    assert position == Position(step // training.STEPS, step % training.STEPS)
    figures = Figures()
    model = training.run(tmp_path, figures, training.After(100, None))
    assert_same_run(model, uninterrupted[0])
    assert figures.rows == uninterrupted[1]  # what was counted before the interrupt counts


def test_an_interrupted_call_is_taken_up_in_the_same_process_with_the_same_callback(tmp_path, uninterrupted):
    resume = ExactResume(tmp_path)
    interrupt = training.After(3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        training.run(tmp_path, interrupt, resume=resume)
    assert_same_run(training.run(tmp_path, resume=resume), uninterrupted[0])


def test_sigterm_leaves_a_state_and_the_handlers_that_were_there(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        training.run(tmp_path, training.After(1, lambda: signal.raise_signal(signal.SIGTERM)))
    assert StateFolder(tmp_path).newest()[0] == Position(0, 1)
    assert signal.getsignal(signal.SIGTERM) is before


def test_interrupted_while_the_first_batches_are_made_it_goes_on_exactly(tmp_path, uninterrupted):
    calls = []

    def batches(epoch, skip):
        calls.append(epoch)
        if calls == [99, 0]:  # those of the evaluation come first
            signal.raise_signal(signal.SIGTERM)
        return training.batches(epoch, skip)

    with pytest.raises(KeyboardInterrupt):
        training.run(tmp_path, batches=batches)
    assert StateFolder(tmp_path).newest()[0] == Position(0, 1)
    assert_same_run(training.run(tmp_path), uninterrupted[0])


def test_patience_of_early_stopping_is_remembered(tmp_path):
    def patient():
        # Nothing is ever better by 100, so that after the first epoch every epoch counts.
        return keras.callbacks.EarlyStopping("loss", patience=2, min_delta=100)

    with pytest.raises(KeyboardInterrupt):
        training.run(tmp_path, patient(), Interrupt(epoch=1), epochs=9)
    stopping = patient()
    training.run(tmp_path, stopping, Interrupt(epoch=99), epochs=9)
    assert stopping.stopped_epoch == 2
    assert StateFolder(tmp_path).newest()[0] == Position(3)


def test_weights_that_no_state_would_have_are_refused(tmp_path):
    with pytest.raises(ValueError, match="keep them by ModelCheckpoint"):
        training.run(tmp_path, keras.callbacks.EarlyStopping("loss", restore_best_weights=True))
    assert not list(tmp_path.iterdir())


def test_a_run_that_has_ended_is_not_trained_further(tmp_path, uninterrupted):
    model = training.run(tmp_path)
    again = training.run(tmp_path)
    assert_same_run(again, model)


def test_another_model_is_refused_and_left_as_it_was(tmp_path):
    training.run(tmp_path, epochs=1)
    model = training.compiled_model(use_ema=False, ema_momentum=0.99)
    before = model.get_weights()
    with pytest.raises(ValueError, match="another model or optimizer"):
        training.run(tmp_path, model=model)
    for array, kept in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(array, kept)
