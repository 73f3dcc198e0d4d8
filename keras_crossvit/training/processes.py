"""The processes of one run, which JAX connects: which of them this is, what they agree on, how they stop together."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_crossvit.errors import ProcessLostError

# JAX's own defaults, named since messages and documents state them.
START_TIMEOUT = 300
HEARTBEAT_TIMEOUT = 100
# What the collectives of JAX say when the other side is gone: Gloo on CPUs, NCCL on GPUs, and JAX's service.
_SIGNS_OF_LOSS = re.compile(r"gloo|nccl|coordination service|heartbeat|connection (closed|reset)", re.IGNORECASE)
_REASON = re.compile(r"(connection (?:closed|reset)[^\n]*|heartbeat timeout|timed out[^\n]*)", re.IGNORECASE)


def process_count() -> int:
    """How many processes share the run; 1 unless JAX has connected more."""
    return _jax().process_count() if _are_connected() else 1


def process_index() -> int:
    """Which of them this is, from 0."""
    return _jax().process_index() if _are_connected() else 0


def is_first_process() -> bool:
    """Whether this is the process that writes files and prints."""
    return process_index() == 0


def connect(coordinator: str, num_processes: int, process_id: int) -> None:
    """Connects this process with the others; returns when all are there.

    `keras.distribution.initialize` does the same and leaves no say in how long is waited.

    Args:
        coordinator: Address of process 0, as host:port.
        num_processes: How many processes there are.
        process_id: Which of them this is.

    Raises:
        ValueError: JAX has computed something in this process before.
    """
    try:
        _jax().distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=START_TIMEOUT,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
        )
    except RuntimeError as error:
        raise ValueError(
            f"the processes cannot be connected any more ({str(error).splitlines()[0]}); do so before anything is "
            "computed, which making a model is, and give the model by its name."
        ) from error


def disconnect() -> None:
    """Waits until all processes have come here, and lets each go its own way."""
    if not _are_connected():
        return
    _jax().distributed.shutdown()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # JAX had taken it over


def wait_for_all(place: str) -> None:
    """Waits until all processes have come to a place in the program."""
    if process_count() > 1:
        _multihost().sync_global_devices(place)


def require_agreement(label: str, value: Any, remedy: str) -> None:
    """Raises ValueError in every process unless all have the same value, a JSON value of few characters."""
    if process_count() == 1:
        return
    text = json.dumps(value)
    letters = np.frombuffer(text.encode().ljust(256), np.uint8)
    of_all = [bytes(row).decode().strip() for row in _multihost().process_allgather(letters)]
    if len(set(of_all)) > 1:
        listed = ", ".join(f"{each} in process {i}" for i, each in enumerate(of_all))
        raise ValueError(f"{label} differs between the processes ({listed}); {remedy}")


def all_stop_here(step: int) -> bool:
    """Whether a process has been asked to stop, and this is the step at which all do.

    Args:
        step: Number of the step, the same in all processes; every step has to be asked for.
    """
    return process_count() > 1 and _multihost().reached_preemption_sync_point(step)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Context in which what is made belongs to this process alone; the others need not make it too."""
    shared = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(shared)


def as_value_of(variable: Any, array: np.ndarray) -> Any:
    """An array in the form in which a variable takes it without asking the other processes whether theirs is equal."""
    if process_count() == 1:
        return array
    return _jax().make_array_from_callback(array.shape, variable.value.sharding, lambda index: array[index])


@contextlib.contextmanager
def losses_explained() -> Iterator[None]:
    """Context in which the error of a broken connection becomes a `ProcessLostError`."""
    try:
        yield
    except Exception as error:
        if process_count() == 1 or not _SIGNS_OF_LOSS.search(str(error)):
            raise
        reason = _REASON.search(str(error))
        raise ProcessLostError(
            f"process {process_index()} of {process_count()} has lost another"
            f"{f' ({reason.group(1).strip()})' if reason else ''} and stops; {same_command(process_count())}"
        ) from error


def same_command(count: int) -> str:
    """What to do when a run of several processes has ended early."""
    return f"the same command in each of the {count} processes goes on from the last state that was written."


def _are_connected() -> bool:
    return keras.backend.backend() == "jax" and _jax().distributed.is_initialized()


def _jax() -> Any:
    import jax

    return jax


def _multihost() -> Any:
    from jax.experimental import multihost_utils

    return multihost_utils
