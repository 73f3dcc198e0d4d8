"""Stop at any moment and go on exactly: the weights at the end are those of a run that was never stopped."""

from __future__ import annotations

import dataclasses
import functools
import re
import threading
import time
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import keras
import numpy as np

from keras_crossvit._internal.checks import require_integer, require_positive
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keras_compat import build_training_variables
from keras_crossvit.training.callback_state import carried_values, put_back, require_carried
from keras_crossvit.training.distributed import all_stop_here, is_first_process, require_agreement
from keras_crossvit.training.signals import SignalHandler
from keras_crossvit.training.state import Position, StateFolder, assign_variables, metric_variables, run_variables

_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclasses.dataclass
class Interval:
    """A rhythm.

    Args:
        seconds: Time between two. Defaults to None: steps count.
        steps: Steps between two. Defaults to None: seconds count.

    Raises:
        ValueError: neither is given or both, or a value is out of range.
    """

    seconds: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None):
            raise InvalidValueError(f"seconds {self.seconds} and steps {self.steps}: give one of the two.")
        if self.seconds is not None:
            require_positive("seconds", self.seconds)
        else:
            require_integer("steps", self.steps, minimum=1)
        self._last = time.monotonic()

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Reads "30s", "5m", "1h" or "200steps".

        Raises:
            ValueError: it reads otherwise.
        """
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|steps?)", text.strip())
        if match is None:
            raise InvalidValueError(
                f"{text!r} is no rhythm; use a number with a unit, such as 30s, 5m, 1h or 200steps."
            )
        number, unit = match.groups()
        if unit in _SECONDS:
            return cls(seconds=float(number) * _SECONDS[unit])
        return cls(steps=require_integer("steps", int(number) if number.isdecimal() else number, minimum=1))

    def is_due(self, steps: int) -> bool:
        """Whether it is time after this many steps; by the clock, time is then counted anew."""
        if self.steps is not None:
            return steps % self.steps == 0
        now = time.monotonic()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True


RESUMABLE = "the run's state is kept; the same command goes on from here"


class ResumableState(keras.callbacks.Callback):
    """Writes all that a run's future depends on, and takes it up again.

    That is the model's variables with the states of its seed generators, the optimizer's, the metrics' and what the
    other callbacks count, such as the patience that `keras.callbacks.EarlyStopping` has left. Ctrl-C and SIGTERM write
    the state after the step that is under way and then interrupt, or after the evaluation if that is under way; kill -9
    costs the steps since the last state was written. `fit_resumable` is `model.fit` with it.
    `keras.callbacks.BackupAndRestore` goes on at the start of an epoch with other drop-path masks, and writes in place.
    Where several processes share a run, all read the state, the first alone writes it, and all stop at the same step.

    Args:
        folder: Folder of the state files. Two are kept, and each is written whole or not at all.
        interval: How often to write, beside the end of every epoch. Defaults to every 300 seconds.
        carried: Callbacks what of which counts belongs to the run: Keras' EarlyStopping, ReduceLROnPlateau and
            ModelCheckpoint, and every `CarryingCallback`. Defaults to none.
        settings: Digest of the settings of the run, which is noted in every state; a state with another one is not
            taken. Defaults to None: the caller vouches for the folder.
    """

    def __init__(
        self,
        folder: str | PathLike,
        *,
        interval: Interval | None = None,
        carried: Sequence[keras.callbacks.Callback] = (),
        settings: str | None = None,
    ) -> None:
        super().__init__()
        self.states = StateFolder(folder)
        self.interval = interval or Interval(seconds=300)
        self.carried = list(carried)
        self.position = Position()
        self.finished = False
        self._arrays: dict[str, np.ndarray] = {}
        self._counts: dict[str, dict[str, Any]] = {}
        self._settings = settings
        self._first_batch = 0
        self._steps_here = 0
        self._interrupted = threading.Event()

    def restore(self, model: keras.Model, *, steps: int | None = None) -> Position:
        """Sets the model, its optimizer and the carried callbacks to the newest state, if there is one.

        A state is a file: one whose counts are not of the names, types and ranges that this run's callbacks have is
        damaged, and passed over.

        Args:
            model: A compiled model; its optimizer and metrics get their variables here.
            steps: Steps of an epoch. Defaults to None: any place in an epoch is believed.

        Returns:
            Where to go on.

        Raises:
            ValueError: no state can be read, the newest belongs to another model, or the processes of the run see
                different ones; nothing has been changed.
        """
        newest = self.states.newest(functools.partial(self._require_own, steps=steps))
        require_agreement(
            "the newest state of the run",
            None if newest is None else dataclasses.astuple(newest[0]),
            f"'{self.states.path}' has to be one folder, which all of them see.",
        )
        if newest is None:
            return self.position
        position, arrays, facts = newest
        assign_variables(run_variables(model), arrays)
        self.position, self._arrays = position, arrays
        self._counts, self.finished = facts["callbacks"], facts["finished"]
        put_back(self._counts, self.carried)  # a run that has ended never begins to train
        return self.position

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Puts back what `fit` changes when it begins and ends: counters of callbacks, averaged weights."""
        self._first_batch = self.position.batch
        if self._arrays:
            assign_variables(run_variables(self.model), self._arrays)
            put_back(self._counts, self.carried)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Gives the metrics back what they had counted in the part of the epoch that is behind."""
        if self._first_batch:
            assign_variables(metric_variables(self.model), self._arrays)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Writes the state when it is time, or when someone wants to stop."""
        self._steps_here += 1
        if all_stop_here(self._steps_here):
            self._interrupted.set()
        if batch + 1 == self.params["steps"]:
            return  # the epoch's figures and evaluation are still to come, and the state after them
        self.position = Position(self.position.epoch, self._first_batch + batch + 1)
        if self._interrupted.is_set():
            self._write()
            raise KeyboardInterrupt(RESUMABLE)
        if self.interval.is_due(batch + 1):
            self._write()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes the state. This callback is the last in the list, so the others have done their part."""
        self.position = Position(epoch + 1)
        self.finished = bool(self.model.stop_training)
        self._write()
        if self._interrupted.is_set():
            raise KeyboardInterrupt(RESUMABLE)

    def listening(self) -> Any:
        """Context in which Ctrl-C and SIGTERM wait for the end of the step; a second Ctrl-C does not."""
        self._interrupted.clear()  # of the call before, which has stopped
        return SignalHandler(self._interrupted)

    def _require_own(self, position: Position, facts: dict[str, Any], *, steps: int | None) -> None:
        """Raises ValueError unless these are the facts of a state of this run."""
        if not facts.keys() >= {"finished", "callbacks"} or facts.keys() - {"finished", "callbacks", "settings"}:
            raise InvalidValueError(f"it says {', '.join(sorted(facts))[:200]} of the run")
        if type(facts["finished"]) is not bool:
            raise InvalidValueError(f"finished is {str(facts['finished'])[:100]}")
        if steps is not None and position.batch >= steps:
            raise InvalidValueError(f"it is of batch {position.batch} of an epoch of {steps}")
        if facts.get("settings", self._settings) != self._settings:  # earlier versions have noted none
            raise InvalidValueError("it belongs to a run of other settings or pictures")
        require_carried(facts["callbacks"], self.carried, position.epoch)

    def _write(self) -> None:
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # within an epoch the trainer holds the values, and the variables none
        variables = run_variables(self.model)
        self._arrays = {name: np.array(keras.ops.convert_to_numpy(each)) for name, each in variables.items()}
        self._counts = carried_values(self.carried)
        if is_first_process():
            facts = {"finished": self.finished, "callbacks": self._counts, "settings": self._settings}
            self.states.write(self.position, self._arrays, facts)


def fit_resumable(
    model: keras.Model,
    batches: Callable[[int, int], Any],
    *,
    epochs: int,
    resume: ResumableState,
    validation_data: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = 0,
) -> None:
    """`model.fit`, resumable at every step; the same call goes on where the last one was stopped.

    Each epoch is a `fit` of its own, as its batches are: Keras fixes the number of steps once per `fit`, and an epoch
    that is taken up in the middle has fewer.

    Args:
        model: A compiled model.
        batches: Function of (epoch, skip_batches) that returns the epoch's `tf.data.Dataset`, of known cardinality,
            without its first batches. What it gives may depend on nothing else.
        epochs: Epochs of the whole run.
        resume: Where the state is kept, and how often.
        validation_data: As in `fit`. Defaults to None.
        callbacks: As in `fit`; what Keras' EarlyStopping, ReduceLROnPlateau and ModelCheckpoint count goes on
            counting, and what a `CarryingCallback` declares. Each epoch is a `fit` to them, so what they keep else from
            one epoch to the next is lost: give `keras.callbacks.CSVLogger` append=True. Defaults to none.
        verbose: As in `fit`. Defaults to 0.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the state has been written.
        ValueError: the batches of an epoch cannot be counted, a callback keeps weights that no state would have, or the
            state belongs to another model.
        OSError: the state could not be written; the last one is intact.
    """
    _require_resumable(callbacks)
    resume.carried = list(callbacks)
    if is_first_process():
        resume.states.remove_unfinished()
    with resume.listening():  # from here on, since an interrupt may be lost while TensorFlow traces
        first_epoch = batches(0, 0)
        steps = int(first_epoch.cardinality())
        if steps < 0:
            raise InvalidValueError(
                "the batches of an epoch cannot be counted; say how many there are by "
                "dataset.apply(tf.data.experimental.assert_cardinality(...))."
            )
        target = first_epoch.element_spec[1]
        build_training_variables(model, keras.ops.zeros((1, *target.shape[1:]), target.dtype.name))
        position = resume.restore(model, steps=steps)
        while position.epoch < epochs and not resume.finished:
            model.fit(
                batches(position.epoch, position.batch),
                initial_epoch=position.epoch,
                epochs=position.epoch + 1,
                validation_data=validation_data,
                callbacks=[*callbacks, resume],
                shuffle=False,  # the order is the dataset's
                verbose=verbose,
            )
            position = resume.position
    # A run that was killed after its last step has not been through Keras' own end of training.
    model.optimizer.finalize_variable_values(model.trainable_variables)


def _require_resumable(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    for callback in callbacks:
        if getattr(callback, "restore_best_weights", False):
            raise InvalidValueError(
                f"{type(callback).__name__}(restore_best_weights=True) keeps the best weights in memory alone, and "
                "would put them back after every epoch; leave it out, and keep them by "
                "ModelCheckpoint(save_best_only=True)."
            )
