"""Ctrl-C and SIGTERM as wishes to stop."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from keras_crossvit.training.processes import process_count

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Listening:
    """Context in which the first Ctrl-C or SIGTERM sets an event, and the second interrupts at once.

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

    def _note(self, number: int, frame: Any) -> None:
        if self._noted:
            raise KeyboardInterrupt
        self._noted = True
        if process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._interrupted.set()
