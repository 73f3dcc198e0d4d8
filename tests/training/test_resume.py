"""A run that is stopped and resumed ends with bit-identical weights to those of a run that was never stopped."""

import random
import shutil
import signal
import threading
from typing import ClassVar

import keras
import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit._internal.keras_compat import build_training_variables
from keras_crossvit.pipeline import Augmentation, open_dataset, prepare, training_batches
from keras_crossvit.training.resume import Interval, ResumableState, RunInterrupted, SignalHandler
from keras_crossvit.training.state import Position, StateFolder, StatefulCallback
from tests.helpers import image_folders, training
from tests.helpers.processes import run_python
from tests.helpers.states import rewrite


class Rows(StatefulCallback):
    saved_attributes: ClassVar = {"rows": lambda value, epochs: isinstance(value, list) and len(value) == epochs}

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append(dict(logs))


class InterruptEpoch(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._epoch:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    rows = Rows()
    return training.run(tmp_path_factory.mktemp("whole"), rows), rows.rows


def assert_same_run(model, uninterrupted):
    for resumed, whole in zip(model.variables, uninterrupted.variables, strict=True):
        np.testing.assert_array_equal(resumed, whole, err_msg=whole.path)
    for resumed, whole in zip(model.optimizer.variables, uninterrupted.optimizer.variables, strict=True):
        np.testing.assert_array_equal(resumed, whole, err_msg=whole.path)


def test_a_crossvit_killed_at_a_random_step_is_resumed_bit_identically(tmp_path):
    step = random.SystemRandom().randint(1, training.EPOCHS * training.STEPS)
    print(f"killed at step {step}")
    done = run_python("-m", "tests.helpers.training", tmp_path / "killed", step, "SIGKILL", check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    # One model, which is compiled once and starts twice from the same values.
    model = training.compiled_model(crossvit=True)
    build_training_variables(model, np.zeros((1, training.CLASSES), "float32"))
    variables = [*model.variables, *model.optimizer.variables]
    initial = [np.array(each) for each in variables]
    training.run(tmp_path / "whole", model=model)
    whole = [np.array(each) for each in variables]
    for variable, value in zip(variables, initial, strict=True):
        variable.assign(value)
    training.run(tmp_path / "killed", model=model)
    for variable, value in zip(variables, whole, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)


@pytest.mark.parametrize("step", [1, 7, 10])
def test_an_interrupt_saves_the_state_of_its_step(tmp_path, uninterrupted, step):
    rows = Rows()
    with pytest.raises(RunInterrupted):
        training.run(tmp_path, rows, training.interrupt_after(step), interval=100)
    assert StateFolder(tmp_path).newest().position == Position(step // training.STEPS, step % training.STEPS)
    rows = Rows()
    assert_same_run(training.run(tmp_path, rows), uninterrupted[0])
    assert rows.rows == uninterrupted[1]


def test_an_interrupted_run_is_resumed_in_the_same_process_with_the_same_callback(tmp_path, uninterrupted):
    resume = ResumableState(tmp_path)
    with pytest.raises(RunInterrupted):
        training.run(tmp_path, training.interrupt_after(3), resume=resume)
    assert_same_run(training.run(tmp_path, resume=resume), uninterrupted[0])


def test_sigterm_saves_the_state_and_earlier_handlers_are_restored(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RunInterrupted):
        training.run(tmp_path, training.interrupt_after(1, signal.SIGTERM))
    assert StateFolder(tmp_path).newest().position == Position(0, 1)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupt_while_the_first_batches_are_made_is_not_lost(tmp_path, uninterrupted):
    calls = []

    def batches(epoch, skip):
        calls.append(epoch)
        if calls == [99, 0]:  # the validation batches come first
            signal.raise_signal(signal.SIGTERM)
        return training.batches(epoch, skip)

    with pytest.raises(RunInterrupted):
        training.run(tmp_path, batches=batches)
    assert StateFolder(tmp_path).newest().position == Position(0, 1)
    assert_same_run(training.run(tmp_path), uninterrupted[0])


@pytest.mark.parametrize("kind", ["shards", "dataset"])
def test_sequential_data_is_resumed_within_an_epoch(kind, tmp_path):
    data, class_names = image_folders.dataset(9), list(image_folders.COLOURS)
    if kind == "shards":
        data, class_names = tmp_path / "shards", None
        prepare(image_folders.write_plain(tmp_path / "plain", 3), data, shard_bytes=10_000)
    source = open_dataset(data, class_names=class_names)
    config = kc.variant_config("crossvit_9_dagger", num_classes=3, img_size=(48, 32))

    def batches(epoch, skip):
        return training_batches(source, config, Augmentation.none(), 3, seed=0, epoch=epoch, skip_batches=skip)

    with pytest.raises(RunInterrupted):
        training.run(tmp_path / "interrupted", training.interrupt_after(2), epochs=1, batches=batches)
    resumed, whole = (training.run(tmp_path / name, epochs=1, batches=batches) for name in ("interrupted", "whole"))
    assert_same_run(resumed, whole)


def test_the_patience_of_early_stopping_is_resumed(tmp_path):
    def patient():
        # No epoch is better by 100 than the first, so every later epoch counts.
        return keras.callbacks.EarlyStopping("loss", patience=2, min_delta=100)

    with pytest.raises(RunInterrupted):
        training.run(tmp_path, patient(), InterruptEpoch(1), epochs=9)
    stopping = patient()
    training.run(tmp_path, stopping, InterruptEpoch(99), epochs=9)
    assert stopping.stopped_epoch == 2
    assert StateFolder(tmp_path).newest().position == Position(3)


def test_weights_that_would_not_be_in_the_state_are_refused(tmp_path):
    with pytest.raises(ValueError, match="restore_best_weights"):
        training.run(tmp_path, keras.callbacks.EarlyStopping("loss", restore_best_weights=True))
    assert not list(tmp_path.iterdir())


def test_a_finished_run_is_not_trained_again_and_fits_no_other_model(tmp_path):
    model = training.run(tmp_path)
    assert_same_run(training.run(tmp_path), model)
    other = training.compiled_model(use_ema=False, ema_momentum=0.99)
    before = other.get_weights()
    with pytest.raises(ValueError, match="another model or optimizer"):
        training.run(tmp_path, model=other)
    for array, kept in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(array, kept)


class Losses(keras.callbacks.Callback):
    """A user's callback that offers its state: the losses of an epoch up to now, and what it was told."""

    def __init__(self):
        super().__init__()
        self.losses, self.told = [], []

    def get_state(self):
        return {"losses": self.losses, "told": self.told}

    def set_state(self, state):
        self.losses, self.told = list(state["losses"]), list(state["told"])

    def on_train_begin(self, logs=None):
        self.told.append(["begin", self.params["epochs"], self.params["steps"]])

    def on_epoch_begin(self, epoch, logs=None):
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append([batch, logs["loss"]])

    def on_epoch_end(self, epoch, logs=None):
        self.told.append([epoch, len(self.losses)])

    def on_train_end(self, logs=None):
        self.told.append(["end", logs["loss"]])


def test_callbacks_see_one_fit_of_all_epochs(tmp_path):
    losses = Losses()
    training.run(tmp_path, losses)
    begin, *epochs, end = losses.told
    assert begin == ["begin", training.EPOCHS, training.STEPS]
    assert epochs == [[epoch, training.STEPS] for epoch in range(training.EPOCHS)]
    assert end == ["end", losses.losses[-1][1]]


def test_a_callback_with_get_state_and_set_state_is_resumed_exactly(tmp_path):
    whole, interrupted, resumed = Losses(), Losses(), Losses()
    training.run(tmp_path / "whole", whole)
    with pytest.raises(RunInterrupted):
        training.run(tmp_path / "interrupted", interrupted, training.interrupt_after(7), interval=100)
    training.run(tmp_path / "interrupted", resumed)
    assert resumed.losses == whole.losses
    assert resumed.told == whole.told
    finished = Losses()
    training.run(tmp_path / "interrupted", finished)
    assert finished.losses == whole.losses


def test_a_state_that_is_not_json_is_refused(tmp_path):
    losses = Losses()
    losses.get_state = lambda: {"path": tmp_path}
    with pytest.raises(TypeError, match=r"get_state\(\) of Losses"):
        training.run(tmp_path, losses)


def test_callbacks_whose_counters_are_not_saved_are_named(tmp_path, caplog):
    checkpoints = [keras.callbacks.ModelCheckpoint(tmp_path / "a.keras", save_freq=each) for each in ("epoch", 3)]
    saved = [Losses(), Rows(), keras.callbacks.EarlyStopping("loss"), keras.callbacks.CSVLogger(tmp_path / "log.csv")]
    training.run(tmp_path / "saved", *saved, checkpoints[0], epochs=1)
    assert not caplog.messages
    training.run(tmp_path / "unsaved", *saved, Notes(), checkpoints[1], Notes(), epochs=1)
    (message,) = caplog.messages
    assert "What Notes, ModelCheckpoint may count is not saved" in message


def test_a_callback_that_sets_weights_is_refused(tmp_path):
    with pytest.raises(ValueError, match="BackupAndRestore"):
        training.run(tmp_path, keras.callbacks.BackupAndRestore(tmp_path / "backup"))


class Notes(keras.callbacks.Callback):
    """A user's callback with attributes named like some that other callbacks save."""

    def __init__(self):
        super().__init__()
        self.rows, self.best = [object()], "mine"  # no JSON values


def test_only_declared_attributes_of_callbacks_are_saved(tmp_path):
    notes = Notes()
    training.run(tmp_path, notes, epochs=1)
    training.run(tmp_path, notes, epochs=2)
    assert notes.best == "mine"
    assert StateFolder(tmp_path).newest().metadata["callbacks"] == {}


def stateful_callbacks(folder):
    return [
        keras.callbacks.EarlyStopping("loss", patience=5),
        keras.callbacks.ReduceLROnPlateau("loss", patience=5),
        keras.callbacks.ModelCheckpoint(folder / "checkpoint.keras", "loss", save_best_only=True),
        Rows(),
    ]


@pytest.fixture(scope="module")
def two_states(tmp_path_factory):
    """The states after the first and the second epoch of a run."""
    folder = tmp_path_factory.mktemp("states")
    training.run(folder / "resume", *stateful_callbacks(folder), epochs=2, interval=100)
    assert [path.name[:12] for path in StateFolder(folder / "resume").files()] == ["epoch-000001", "epoch-000002"]
    return folder / "resume"


def set_value(name, attribute, value):
    return lambda metadata: metadata["callbacks"].setdefault(name, {}).update({attribute: value})


FORGED = {
    "path": set_value("ModelCheckpoint-0", "filepath", "elsewhere.keras"),
    "attribute of another callback": set_value("Rows-0", "best", 0.5),
    "method": set_value("EarlyStopping-0", "on_epoch_end", 1),
    "unknown callback": set_value("MetricsTable-0", "_path", "elsewhere.csv"),
    "second callback": set_value("EarlyStopping-1", "wait", 0),
    "count as text": set_value("EarlyStopping-0", "wait", "0"),
    "count as bool": set_value("EarlyStopping-0", "wait", False),
    "fractional count": set_value("EarlyStopping-0", "wait", 0.5),
    "nan count": set_value("EarlyStopping-0", "wait", float("nan")),
    "infinite count": set_value("ReduceLROnPlateau-0", "cooldown_counter", float("inf")),
    "negative count": set_value("ReduceLROnPlateau-0", "wait", -1),
    "count beyond the epochs": set_value("EarlyStopping-0", "wait", 3),
    "metric as list": set_value("ModelCheckpoint-0", "best", [0.5]),
    "metric as text": set_value("ModelCheckpoint-0", "best", "0.5"),
    "huge integer": set_value("ModelCheckpoint-0", "best", 10**400),
    "long list": set_value("Rows-0", "rows", [{}] * 100_000),
    "missing attribute": lambda metadata: metadata["callbacks"]["EarlyStopping-0"].pop("wait"),
    "missing callback": lambda metadata: metadata["callbacks"].pop("Rows-0"),
    "callbacks as list": lambda metadata: metadata.update(callbacks=[]),
    "callback as list": lambda metadata: metadata["callbacks"].update({"Rows-0": ["rows"]}),
    "no callbacks": lambda metadata: metadata.pop("callbacks"),
    "no settings": lambda metadata: metadata.pop("settings_sha256"),
    "additional key": lambda metadata: metadata.update(path="elsewhere"),
    "finished as text": lambda metadata: metadata.update(finished="no"),
    "epoch of another name": lambda metadata: metadata.update(epoch=1),
    "epoch as bool": lambda metadata: metadata.update(epoch=True),
    "batch beyond the epoch": lambda metadata: metadata.update(batch=training.STEPS),
    "no epoch": lambda metadata: metadata.pop("epoch"),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_state_with_impossible_metadata_is_skipped(change, two_states, tmp_path):
    folder = tmp_path / "resume"
    shutil.copytree(two_states, folder)
    rewrite(StateFolder(folder).files()[-1], change)
    callbacks = stateful_callbacks(tmp_path)
    path = callbacks[2].filepath
    model = training.compiled_model()
    build_training_variables(model, np.zeros((1, training.CLASSES), "float32"))
    resume = ResumableState(folder, callbacks=callbacks)
    assert resume.restore(model, steps=training.STEPS) == Position(1)
    assert callbacks[2].filepath == path
    assert callable(callbacks[0].on_epoch_end)
    StateFolder(folder).files()[0].unlink()
    with pytest.raises(ValueError, match="epoch-000002"):
        ResumableState(folder, callbacks=stateful_callbacks(tmp_path)).restore(model, steps=training.STEPS)


def test_a_state_with_other_settings_is_refused(tmp_path):
    model = training.compiled_model()
    training.run(tmp_path, model=model, epochs=1, resume=ResumableState(tmp_path, settings_sha256="a" * 64))
    with pytest.raises(ValueError, match="other settings"):
        ResumableState(tmp_path, settings_sha256="b" * 64).restore(model)
    assert ResumableState(tmp_path, settings_sha256="a" * 64).restore(model) == Position(1)


def handle(numbers, handled):
    with SignalHandler(threading.Event()):
        for number in numbers:
            signal.raise_signal(number)
            handled.append(number)


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT, signal.SIGINT]])
def test_the_first_interrupt_is_not_lost_and_the_second_does_not_wait(numbers):
    handled = []
    with pytest.raises(KeyboardInterrupt):
        handle(numbers, handled)
    assert handled == numbers[:1]
    handle([], handled)  # nothing is raised without a signal


@pytest.mark.parametrize(
    ("text", "seconds", "steps"),
    [("30s", 30, None), ("5m", 300, None), ("1.5h", 5400, None), ("200steps", None, 200), ("1 step", None, 1)],
)
def test_an_interval_is_a_number_and_a_unit(text, seconds, steps):
    assert (Interval.parse(text).seconds, Interval.parse(text).steps) == (seconds, steps)


@pytest.mark.parametrize("text", ["", "5", "m", "-1s", "0s", "0steps", "1.5steps", "5 days"])
def test_other_intervals_are_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  (messages differ)
        Interval.parse(text)


def test_an_interval_of_steps_is_due_at_multiples_and_one_of_seconds_once(monkeypatch):
    assert [step for step in range(1, 10) if Interval(steps=3).is_due(step)] == [3, 6, 9]
    now = 100.0
    monkeypatch.setattr("keras_crossvit.training.resume.time.monotonic", lambda: now)
    interval = Interval(seconds=10)
    assert not interval.is_due(1)
    now = 111.0
    assert interval.is_due(2)
    assert not interval.is_due(3)
