"""Training that can be stopped at any step and resumed exactly: the final weights are bit-identical."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import keras
import numpy as np

from keras_crossvit._internal.checks import require_integer, require_positive
from keras_crossvit._internal.errors import InvalidValueError, OperationError, listed
from keras_crossvit._internal.files import remove_unfinished
from keras_crossvit._internal.keras_compat import build_training_variables
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.log import logger
from keras_crossvit.training.distributed import all_stop_here, is_first_process, process_count, require_agreement
from keras_crossvit.training.state import (
    Position,
    StateFolder,
    assign_variables,
    callback_states,
    check_callback_states,
    metric_variables,
    restore_callback_states,
    run_variables,
    without_saved_state,
)


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM has stopped a run after its state was saved; the same call resumes it."""

    def __init__(self) -> None:
        super().__init__("the state of the run is saved, and the same command resumes it")


@known_keywords_only
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
    """`model.fit` that can be stopped at every step; the same call resumes it.

    Each epoch is one `fit`, because Keras fixes the number of steps once per `fit` and a resumed epoch has fewer. To
    the callbacks all of them look like one: training begins once in a process and ends once.

    Args:
        model: A compiled model.
        batches: Function of (epoch, skip_batches) that returns the `tf.data.Dataset` of an epoch, of known
            cardinality, without its first batches. Its values must depend on nothing else.
        epochs: Number of epochs of the whole run.
        resume: Saves and restores the state.
        validation_data: As in `fit`. Defaults to None.
        callbacks: As in `fit`. The counters of Keras' EarlyStopping, ReduceLROnPlateau and ModelCheckpoint, of every
            `StatefulCallback` and of callbacks with `get_state` and `set_state` are resumed; others start anew in a
            resumed run, which a warning says. `keras.callbacks.CSVLogger` needs append=True. Defaults to none.
        verbose: As in `fit`. Defaults to 0.

    Raises:
        RunInterrupted: Ctrl-C or SIGTERM. The state has been saved.
        InvalidValueError: the number of batches is unknown, a callback sets weights that are not in the state, or the
            state belongs to another model or other callbacks.
        FileError: the state cannot be written. The last one is intact.
    """
    for callback in callbacks:
        if getattr(callback, "restore_best_weights", False):
            raise InvalidValueError(
                f"{type(callback).__name__}(restore_best_weights=True) keeps the best weights only in memory, so a "
                "resumed run would lose them. Leave it out, and save them with ModelCheckpoint(save_best_only=True)."
            )
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise InvalidValueError("BackupAndRestore would change the weights of a resumed run; leave it out.")
    if unsaved := without_saved_state(callbacks):
        logger.warning(
            "What %s may count is not saved, so a resumed run starts it anew. A callback with get_state() and "
            "set_state(state) is resumed.",
            ", ".join(dict.fromkeys(unsaved)),
        )
    resume.callbacks = list(callbacks)
    shown = _OneFit(callbacks, resume, epochs)
    if is_first_process():
        remove_unfinished(resume.states.path)
    with resume.handle_signals():  # this early, because TensorFlow can lose an interrupt while it traces
        first_epoch = batches(0, 0)
        steps = int(first_epoch.cardinality())
        if steps < 0:
            raise InvalidValueError(
                "The number of batches of an epoch is unknown. Set it with "
                "dataset.apply(tf.data.experimental.assert_cardinality(...))."
            )
        target = first_epoch.element_spec[1]
        build_training_variables(model, keras.ops.zeros((1, *target.shape[1:]), target.dtype.name))
        shown.steps = steps
        position = resume.restore(model, steps=steps)
        while position.epoch < epochs and not resume.finished:
            model.fit(
                first_epoch if position == Position() else batches(position.epoch, position.batch),
                initial_epoch=position.epoch,
                epochs=position.epoch + 1,
                validation_data=validation_data,
                callbacks=[shown, resume],
                shuffle=False,  # the dataset has its own order
                verbose=verbose,
            )
            position = resume.position
        shown.finish()
    # A run that was killed after its last step has missed the end of Keras' own training loop.
    model.optimizer.finalize_variable_values(model.trainable_variables)


class _OneFit(keras.callbacks.CallbackList):
    """Shows the epochs of a run, each of which is a `fit`, to callbacks as one `fit`."""

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback], resume: ResumableState, epochs: int) -> None:
        super().__init__(list(callbacks))
        self.steps = 0  # of a whole epoch
        self._resume = resume
        self._epochs = epochs
        self._has_begun = False
        self._logs: dict | None = None

    def set_params(self, params: dict | None) -> None:
        super().set_params({**(params or {}), "epochs": self._epochs, "steps": self.steps} if params else params)

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not self._has_begun:
            self._has_begun = True
            super().on_train_begin(logs)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        super().on_train_batch_begin(self._resume.first_batch + batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        super().on_train_batch_end(self._resume.first_batch + batch, logs)

    def on_train_end(self, logs: dict | None = None) -> None:
        self._logs = logs

    def finish(self) -> None:
        """Ends the `fit`, if it has begun."""
        if self._has_begun:
            super().on_train_end(self._logs)


class ResumableState(keras.callbacks.Callback):
    """Saves everything that the rest of a run depends on, and restores it. To be used with `fit_resumable`.

    The state has the variables of the model (with its seed generators), of the optimizer and of the metrics, and the
    counters of callbacks. `keras.callbacks.BackupAndRestore` resumes at the start of an epoch, with other drop-path
    masks. Ctrl-C and SIGTERM save the state after the current step or evaluation; after `kill -9`, the steps since
    the last saved state are repeated. If several processes share a run, the first one writes the state, all of them
    read it, and all stop at the same step.

    Args:
        folder: Folder of the state files, which are written atomically. Two are kept.
        interval: How often to save, in addition to the end of every epoch. Defaults to every 5 minutes.
        callbacks: Callbacks with counters to save; `fit_resumable` sets them. Defaults to none.
        settings_sha256: Digest of the run's settings. States with another digest are rejected. Defaults to None.
    """

    def __init__(
        self,
        folder: str | PathLike,
        *,
        interval: Interval | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        settings_sha256: str | None = None,
    ) -> None:
        super().__init__()
        self.states = StateFolder(folder)
        self.interval = interval or Interval(seconds=300)
        self.callbacks = list(callbacks)
        self.position = Position()
        self.finished = False
        self._settings_sha256 = settings_sha256
        self._arrays: dict[str, np.ndarray] = {}
        self._callback_states: dict[str, dict[str, Any]] = {}
        self.first_batch = 0  # of the epoch that is trained
        self._callbacks_have_begun = False
        self._steps_here = 0
        self._interrupted = threading.Event()

    def restore(self, model: keras.Model, *, steps: int | None = None) -> Position:
        """Restores the model, its optimizer and the callbacks from the newest intact state, if there is one.

        Args:
            model: A compiled model with built optimizer and metrics.
            steps: Steps of an epoch, to check the position. Defaults to None: not checked.

        Returns:
            Where to resume.

        Raises:
            InvalidValueError: no state can be read, the newest belongs to another model, or the processes of the run
                see different states. Nothing has been changed.
        """
        self._callbacks_have_begun = False
        newest = self.states.newest(functools.partial(self._check_metadata, steps=steps))
        require_agreement(
            "The newest state of the run",
            None if newest is None else dataclasses.astuple(newest.position),
            f"'{self.states.path}' must be a folder that all processes share.",
        )
        if newest is not None:
            assign_variables(run_variables(model), newest.arrays)
            self.position, self._arrays = newest.position, newest.arrays
            self._callback_states, self.finished = newest.metadata["callbacks"], newest.metadata["finished"]
            restore_callback_states(self._callback_states, self.callbacks)  # a finished run never begins to train
        return self.position

    def require_finite_weights(self, moment: str) -> None:
        """Raises OperationError if trainable weights are NaN or infinite: the last saved state shall be a good one."""
        model: Any = self.model
        weights = getattr(model, "student", model).trainable_weights
        spoiled = [each.path for each in weights if not np.isfinite(keras.ops.convert_to_numpy(each)).all()]
        if spoiled:
            raise OperationError(
                f"Weights are NaN or infinite after {moment}: {listed(spoiled, 3)}. {self.states.describe_last()}. "
                f"{AFTER_DIVERGENCE}"
            )

    def handle_signals(self) -> SignalHandler:
        """Returns a context in which the first Ctrl-C or SIGTERM waits for the end of the step."""
        self._interrupted.clear()  # it may be set from an earlier call
        return SignalHandler(self._interrupted)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Restores what `fit` changes when it begins and ends: callback counters and averaged weights."""
        self.first_batch = self.position.batch
        if self._arrays:
            assign_variables(run_variables(self.model), self._arrays)
            if not self._callbacks_have_begun:  # their `on_train_begin` may have reset them
                restore_callback_states(self._callback_states, self.callbacks)
        self._callbacks_have_begun = True

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Restores the metrics and the counters of the part of the epoch that is finished."""
        if self.first_batch:
            assign_variables(metric_variables(self.model), self._arrays)
            restore_callback_states(self._callback_states, self.callbacks)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Saves the state if it is due or the run is to stop."""
        self._steps_here += 1
        if all_stop_here(self._steps_here):
            self._interrupted.set()
        if batch + 1 == self.params["steps"]:
            return  # the state is saved after the evaluation
        self.position = Position(self.position.epoch, self.first_batch + batch + 1)
        if self._interrupted.is_set():
            self._save()
            raise RunInterrupted
        if self.interval.is_due(batch + 1):
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves the state. This callback is the last one, so the others are up to date."""
        self.position = Position(epoch + 1)
        self.finished = bool(self.model.stop_training)
        self._save()
        if self._interrupted.is_set():
            raise RunInterrupted

    def _check_metadata(self, position: Position, metadata: dict[str, Any], *, steps: int | None) -> None:
        if metadata.keys() != {"finished", "callbacks", "settings_sha256"}:
            raise InvalidValueError(f"its metadata are {', '.join(sorted(metadata))[:200]}")
        if type(metadata["finished"]) is not bool:
            raise InvalidValueError(f"finished is {str(metadata['finished'])[:100]}")
        if steps is not None and position.batch >= steps:
            raise InvalidValueError(f"it is of batch {position.batch}, but an epoch has {steps}")
        if metadata["settings_sha256"] != self._settings_sha256:
            raise InvalidValueError("it belongs to a run with other settings or images")
        check_callback_states(metadata["callbacks"], self.callbacks, position.epoch)

    def _save(self) -> None:
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # within an epoch the trainer holds the values of the variables
        self.require_finite_weights(f"step {self.position.batch} of epoch {self.position.epoch + 1}")
        variables = run_variables(self.model)
        self._arrays = {name: np.array(keras.ops.convert_to_numpy(each)) for name, each in variables.items()}
        self._callback_states = callback_states(self.callbacks)
        if is_first_process():
            metadata = {
                "finished": self.finished,
                "callbacks": self._callback_states,
                "settings_sha256": self._settings_sha256,
            }
            self.states.write(self.position, self._arrays, metadata)


# What an error about a loss or weights that are not finite ends with.
AFTER_DIVERGENCE = (
    "Use a smaller learning_rate, global_clipnorm, or another precision than mixed_float16, and another output folder."
)
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclasses.dataclass
class Interval:
    """How often a state is saved: after so many seconds, and after so many steps of an epoch. None is never."""

    seconds: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None:
            require_positive("seconds", self.seconds)
        if self.steps is not None:
            require_integer("steps", self.steps, minimum=1)
        self._last = time.monotonic()

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Reads "30s", "5m", "1h" or "200steps"."""
        match = re.fullmatch(r"(\d+)\s*steps?|(\d+(?:\.\d+)?)\s*([smh])", text.strip())
        if match is None:
            raise InvalidValueError(f"Interval {text!r} is not valid; use a number and a unit, e.g. 5m or 200steps.")
        steps, number, unit = match.groups()
        return cls(steps=int(steps)) if steps else cls(seconds=float(number) * _SECONDS[unit])

    def is_due(self, steps: int) -> bool:
        """Returns whether a state is due after this many steps. If so, time is counted from now."""
        now = time.monotonic()
        is_due = self.seconds is not None and now - self._last >= self.seconds
        if self.steps is not None:
            is_due = is_due or steps % self.steps == 0
        if is_due:
            self._last = now
        return is_due


class SignalHandler:
    """Context in which the first Ctrl-C or SIGTERM sets an event, and a second Ctrl-C interrupts at once.

    If the event is set and nothing has acted on it, leaving the context interrupts. If several processes share a run,
    JAX listens for SIGTERM and tells the others (`all_stop_here`), so Ctrl-C is passed on to it.

    Args:
        interrupted: The event.
    """

    def __init__(self, interrupted: threading.Event) -> None:
        self._interrupted = interrupted
        self._seen = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():  # Python handles signals only there
            handled = (signal.SIGINT,) if process_count() > 1 else (signal.SIGINT, signal.SIGTERM)
            self._former = {each: signal.signal(each, self._handle) for each in handled}

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        if self._interrupted.is_set() and not any(error):
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: Any) -> None:
        if self._seen:
            raise KeyboardInterrupt
        self._seen = True
        if process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._interrupted.set()
