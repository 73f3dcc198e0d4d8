"""A run that is stopped and taken up again ends with the weights of one that was never stopped, bit for bit."""

import random
import shutil
import signal
from typing import ClassVar

import keras
import numpy as np
import pytest
import safetensors.numpy

from keras_crossvit._internal.keras_compat import build_training_variables
from keras_crossvit.training.callback_state import CarryingCallback
from keras_crossvit.training.resume import ResumableState
from keras_crossvit.training.state import Position, StateFolder
from tests.helpers import training
from tests.helpers.processes import run_python
from tests.helpers.states import rewrite


class Figures(CarryingCallback):
    carries: ClassVar = {"rows": lambda value, epochs: isinstance(value, list) and len(value) == epochs}

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
    metrics = Figures()
    return training.run(tmp_path_factory.mktemp("whole"), metrics), metrics.rows


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
    metrics = Figures()
    with pytest.raises(KeyboardInterrupt):
        training.run(tmp_path, metrics, training.After(step, lambda: signal.raise_signal(signal.SIGINT)), interval=100)
    position, _, _ = StateFolder(tmp_path).newest()
    assert position == Position(step // training.STEPS, step % training.STEPS)
    metrics = Figures()
    model = training.run(tmp_path, metrics, training.After(100, None))
    assert_same_run(model, uninterrupted[0])
    assert metrics.rows == uninterrupted[1]  # what was counted before the interrupt counts


def test_an_interrupted_call_is_taken_up_in_the_same_process_with_the_same_callback(tmp_path, uninterrupted):
    resume = ResumableState(tmp_path)
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


class Notes(keras.callbacks.Callback):
    """A callback of a user's own, whose attributes are called like some that others carry."""

    def __init__(self):
        super().__init__()
        self.rows, self.best = [object()], "mine"  # of which no state could be made


def test_what_a_callback_has_not_declared_is_not_in_the_state(tmp_path):
    notes = Notes()
    training.run(tmp_path, notes, epochs=1)
    training.run(tmp_path, notes, epochs=2)
    assert notes.best == "mine"
    assert StateFolder(tmp_path).newest()[2]["callbacks"] == {}


CALLBACKS = ("EarlyStopping-0", "ReduceLROnPlateau-0", "ModelCheckpoint-0", "Figures-0")


def counting(folder):
    return [
        keras.callbacks.EarlyStopping("loss", patience=5),
        keras.callbacks.ReduceLROnPlateau("loss", patience=5),
        keras.callbacks.ModelCheckpoint(folder / "checkpoint.keras", "loss", save_best_only=True),
        Figures(),
    ]


@pytest.fixture(scope="module")
def two_states(tmp_path_factory):
    """A run of two epochs, of which the states of both are kept; what it saves lies beside them."""
    folder = tmp_path_factory.mktemp("states")
    training.run(folder / "resume", *counting(folder), epochs=2, interval=100)
    assert [path.name[:12] for path in StateFolder(folder / "resume").files()] == ["epoch-000001", "epoch-000002"]
    return folder / "resume"


def set_value(name, attribute, value):
    return lambda facts: facts["callbacks"].setdefault(name, {}).update({attribute: value})


FORGED = {
    "a path": set_value("ModelCheckpoint-0", "filepath", "elsewhere.keras"),
    "an attribute of another callback": set_value("Figures-0", "best", 0.5),
    "a method": set_value("EarlyStopping-0", "on_epoch_end", 1),
    "a callback that is not there": set_value("MetricsTable-0", "_path", "elsewhere.csv"),
    "a second one": set_value("EarlyStopping-1", "wait", 0),
    "text for a number": set_value("EarlyStopping-0", "wait", "0"),
    "a bool for a number": set_value("EarlyStopping-0", "wait", False),
    "a fraction for a count": set_value("EarlyStopping-0", "wait", 0.5),
    "nan for a count": set_value("EarlyStopping-0", "wait", float("nan")),
    "infinity for a count": set_value("ReduceLROnPlateau-0", "cooldown_counter", float("inf")),
    "a negative count": set_value("ReduceLROnPlateau-0", "wait", -1),
    "more epochs than there were": set_value("EarlyStopping-0", "wait", 3),
    "a list for a figure": set_value("ModelCheckpoint-0", "best", [0.5]),
    "text for a figure": set_value("ModelCheckpoint-0", "best", "0.5"),
    "an integer of any size": set_value("ModelCheckpoint-0", "best", 10**400),
    "a list of any length": set_value("Figures-0", "rows", [{}] * 100_000),
    "a name too few": lambda facts: facts["callbacks"]["EarlyStopping-0"].pop("wait"),
    "a callback too few": lambda facts: facts["callbacks"].pop("Figures-0"),
    "a list of callbacks": lambda facts: facts.update(callbacks=[]),
    "a callback that is a list": lambda facts: facts["callbacks"].update({"Figures-0": ["rows"]}),
    "no callbacks": lambda facts: facts.pop("callbacks"),
    "a fact of its own": lambda facts: facts.update(path="elsewhere"),
    "finished by a word": lambda facts: facts.update(finished="no"),
    "another epoch than the name's": lambda facts: facts.update(epoch=1),
    "an epoch that is a bool": lambda facts: facts.update(epoch=True),
    "a batch beyond the epoch": lambda facts: facts.update(batch=training.STEPS),
    "no epoch": lambda facts: facts.pop("epoch"),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_state_of_anything_else_is_damaged_and_the_one_before_is_taken(change, two_states, tmp_path):
    folder = tmp_path / "resume"
    shutil.copytree(two_states, folder)
    rewrite(StateFolder(folder).files()[-1], change)
    callbacks = counting(tmp_path)
    paths = callbacks[2].filepath
    resume = ResumableState(folder, carried=callbacks)
    model = training.compiled_model()
    build_training_variables(model, np.zeros((1, training.CLASSES), "float32"))
    assert resume.restore(model, steps=training.STEPS) == Position(1)
    assert callbacks[2].filepath == paths
    assert callable(callbacks[0].on_epoch_end)
    StateFolder(folder).files()[0].unlink()
    with pytest.raises(ValueError, match=r"epoch-000002.*is damaged.*begin anew"):
        ResumableState(folder, carried=counting(tmp_path)).restore(model, steps=training.STEPS)


def test_metadata_of_any_kind_are_damage(two_states, tmp_path):
    shutil.copytree(two_states, tmp_path / "resume")
    newest = StateFolder(tmp_path / "resume").files()[-1]
    texts = ("[" * 200_000, "[]", "5", "null", '"epoch"', "{", "{}", '{"epoch": NaN, "batch": 0}')
    for metadata in (*({"training_state": text} for text in texts), {"other": "{}"}, None):
        safetensors.numpy.save_file({"model/00000": np.zeros(1)}, newest, metadata)
        assert StateFolder(tmp_path / "resume").newest()[0] == Position(1)


def test_a_state_of_other_settings_is_told(two_states, tmp_path):
    model = training.compiled_model()
    training.run(tmp_path, model=model, epochs=1, resume=ResumableState(tmp_path, settings="a" * 64))
    with pytest.raises(ValueError, match="other settings"):
        ResumableState(tmp_path, settings="b" * 64).restore(model)
    assert ResumableState(tmp_path, settings="a" * 64).restore(model) == Position(1)
    for path in StateFolder(tmp_path).files():  # as an earlier version has written it
        rewrite(path, lambda facts: facts.pop("settings") and facts["callbacks"].update({"Progress-0": {}}))
    assert ResumableState(tmp_path, settings="b" * 64).restore(model) == Position(1)
