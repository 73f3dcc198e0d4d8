"""Ctrl-C and SIGTERM as wishes to stop."""

from __future__ import annotations

import signal
import threading
from typing import Any

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Listening:
    """Context in which the first Ctrl-C or SIGTERM sets an event, and the second interrupts at once.

    Args:
        interrupted: The event.
    """

    def __init__(self, interrupted: threading.Event) -> None:
        self._interrupted = interrupted
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no signals
            self._former = {each: signal.signal(each, self._note) for each in _STOP_SIGNALS}

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self._interrupted.is_set():
            raise KeyboardInterrupt
        self._interrupted.set()
