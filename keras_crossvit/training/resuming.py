"""Stop at any moment and go on exactly: the weights at the end are those of a run that was never stopped."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import keras
import numpy as np

from keras_crossvit.training.every import Every
from keras_crossvit.training.interrupts import Listening
from keras_crossvit.training.processes import all_stop_here, is_first_process, require_agreement
from keras_crossvit.training.state import Position, StateFolder
from keras_crossvit.training.variables import assign_variables, metric_variables, run_variables
from keras_crossvit.training_variables import build_training_variables

RESUMABLE = "the run's state is kept; the same command goes on from here"
# What callbacks count: Keras' EarlyStopping, ReduceLROnPlateau and ModelCheckpoint, and those of this package.
CARRIED = ("best", "best_epoch", "cooldown_counter", "epochs_since_last_save", "rows", "stopped_epoch", "wait")


class ExactResume(keras.callbacks.Callback):
    """Writes all that a run's future depends on, and takes it up again.

    That is the model's variables with the states of its seed generators, the optimizer's, the metrics' and what the
    other callbacks count, such as the patience that `keras.callbacks.EarlyStopping` has left. Ctrl-C and SIGTERM write
    the state after the step that is under way and then interrupt, or after the evaluation if that is under way; kill -9
    costs the steps since the last state was written. `fit_exactly` is `model.fit` with it.
    `keras.callbacks.BackupAndRestore` goes on at the start of an epoch with other drop-path masks, and writes in place.
    Where several processes share a run, all read the state, the first alone writes it, and all stop at the same step.

    Args:
        folder: Folder of the state files. Two are kept, and each is written whole or not at all.
        every: How often to write, beside the end of every epoch. Defaults to every 300 seconds.
        carried: Callbacks whose attributes named in `CARRIED` belong to the run. Defaults to none.
    """

    def __init__(
        self,
        folder: str | PathLike,
        *,
        every: Every | None = None,
        carried: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        super().__init__()
        self.states = StateFolder(folder)
        self.every = every or Every(seconds=300)
        self.carried = list(carried)
        self.position = Position()
        self.finished = False
        self._arrays: dict[str, np.ndarray] = {}
        self._counts: dict[str, dict[str, Any]] = {}
        self._first_batch = 0
        self._steps_here = 0
        self._interrupted = threading.Event()

    def restore(self, model: keras.Model) -> Position:
        """Sets the model, its optimizer and the carried callbacks to the newest state, if there is one.

        Args:
            model: A compiled model; its optimizer and metrics get their variables here.

        Returns:
            Where to go on.

        Raises:
            ValueError: no state can be read, the newest belongs to another model, or the processes of the run see
                different ones; nothing has been changed.
        """
        newest = self.states.newest()
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
        self._put_back_counts()  # a run that has ended never begins to train
        return self.position

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Puts back what `fit` changes when it begins and ends: counters of callbacks, averaged weights."""
        self._first_batch = self.position.batch
        if self._arrays:
            assign_variables(run_variables(self.model), self._arrays)
            self._put_back_counts()

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
        if self.every.is_due(batch + 1):
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
        return Listening(self._interrupted)

    def _put_back_counts(self) -> None:
        for name, callback in _by_name(self.carried).items():
            vars(callback).update(self._counts.get(name, {}))

    def _write(self) -> None:
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # within an epoch the trainer holds the values, and the variables none
        variables = run_variables(self.model)
        self._arrays = {name: np.array(keras.ops.convert_to_numpy(each)) for name, each in variables.items()}
        self._counts = {name: _counted(callback) for name, callback in _by_name(self.carried).items()}
        if is_first_process():
            self.states.write(self.position, self._arrays, {"finished": self.finished, "callbacks": self._counts})


def fit_exactly(
    model: keras.Model,
    batches: Callable[[int, int], Any],
    *,
    epochs: int,
    resume: ExactResume,
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
        callbacks: As in `fit`; what they count, by the names in `CARRIED`, goes on counting. Each epoch is a `fit` to
            them, so what they keep else from one epoch to the next is lost: give `keras.callbacks.CSVLogger`
            append=True. Defaults to none.
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
        if int(first_epoch.cardinality()) < 0:
            raise ValueError(
                "the batches of an epoch cannot be counted; say how many there are by "
                "dataset.apply(tf.data.experimental.assert_cardinality(...))."
            )
        target = first_epoch.element_spec[1]
        build_training_variables(model, keras.ops.zeros((1, *target.shape[1:]), target.dtype.name))
        position = resume.restore(model)
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
            raise ValueError(
                f"{type(callback).__name__}(restore_best_weights=True) keeps the best weights in memory alone, and "
                "would put them back after every epoch; leave it out, and keep them by "
                "ModelCheckpoint(save_best_only=True)."
            )


def _by_name(callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, keras.callbacks.Callback]:
    named: dict[str, keras.callbacks.Callback] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        named[f"{kind}-{sum(name.startswith(f'{kind}-') for name in named)}"] = callback
    return named


def _counted(callback: keras.callbacks.Callback) -> dict[str, Any]:
    return {name: getattr(callback, name) for name in CARRIED if hasattr(callback, name)}
