"""Ctrl-C and SIGTERM as wishes to stop."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import keras

from keras_crossvit.training.distributed import process_count

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalHandler:
    """Context in which the first Ctrl-C or SIGTERM sets an event, and the second interrupts at once.

    Its end interrupts where the event is set and nobody has acted on it.

    Where several processes share a run, JAX listens for SIGTERM and tells the others (`processes.all_stop_here`); the
    first Ctrl-C is handed on to it.

    Args:
        interrupted: The event.
    """

    def __init__(self, interrupted: threading.Event) -> None:
        self._interrupted = interrupted
        self._noted = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no signals
            heard = (signal.SIGINT,) if process_count() > 1 else _STOP_SIGNALS
            self._former = {each: signal.signal(each, self._note) for each in heard}

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        if self._interrupted.is_set() and not any(error):
            raise KeyboardInterrupt

    def _note(self, number: int, frame: Any) -> None:
        if self._noted:
            raise KeyboardInterrupt
        self._noted = True
        if process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._interrupted.set()


class StopOnSignal(keras.callbacks.Callback):
    """Ends `fit` by a KeyboardInterrupt after the step in which an event is set, or before the first.

    An interrupt itself may be lost: Keras waits for a step's figures where it lets no exception pass, and most of the
    time of a run is spent there; and Python drops one that comes while a weak reference is cleared, as many are while
    TensorFlow traces.

    Args:
        interrupted: The event, such as `SignalHandler` sets.
    """

    def __init__(self, interrupted: threading.Event) -> None:
        super().__init__()
        self._interrupted = interrupted

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Raises KeyboardInterrupt if the event is set."""
        self._stop_if_asked()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Raises KeyboardInterrupt if the event is set."""
        self._stop_if_asked()

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Raises KeyboardInterrupt if the event is set."""
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self._interrupted.is_set():
            raise KeyboardInterrupt
