"""One run on several devices, of one machine or of several: by TensorFlow's or by JAX's own means."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_crossvit._internal.checks import neighbouring_multiples, require_integer
from keras_crossvit._internal.devices import hide_gpus_from_tensorflow
from keras_crossvit._internal.errors import InvalidValueError, ProcessLostError
from keras_crossvit.training.last_words import last_words
from keras_crossvit.training.recipes import Recipe

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
        raise InvalidValueError(
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
        raise InvalidValueError(f"{label} differs between the processes ({listed}); {remedy}")


def all_stop_here(step: int) -> bool:
    """Whether a process has been asked to stop, and this is the step at which all do.

    Args:
        step: Number of the step, the same in all processes; every step has to be asked for.
    """
    return process_count() > 1 and _multihost().reached_preemption_sync_point(step)


@contextlib.contextmanager
def without_distribution() -> Iterator[None]:
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
def explain_lost_process() -> Iterator[None]:
    """Context in which the error of a broken connection becomes a `ProcessLostError`."""
    try:
        yield
    except Exception as error:
        if process_count() == 1 or not _SIGNS_OF_LOSS.search(str(error)):
            raise
        reason = _REASON.search(str(error))
        raise ProcessLostError(
            f"process {process_index()} of {process_count()} has lost another"
            f"{f' ({reason.group(1).strip()})' if reason else ''} and stops; {restart_hint(process_count())}"
        ) from error


def restart_hint(count: int) -> str:
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


MIRRORED = "mirrored"
DATA_PARALLEL = "data-parallel"
BACKEND_OF = {MIRRORED: "tensorflow", DATA_PARALLEL: "jax"}
# Keras' own names, as `keras.distribution.initialize` reads them.
_ENVIRONMENT = {
    "coordinator": "KERAS_DISTRIBUTION_JOB_ADDRESSES",
    "num_processes": "KERAS_DISTRIBUTION_NUM_PROCESSES",
    "process_id": "KERAS_DISTRIBUTION_PROCESS_ID",
}


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Devices that share a run.

    Args:
        mode: "mirrored", "data-parallel", or None: one device.
        devices: How many there are, over all processes.
        scope: Context in which a model and what it is compiled with are made.
        process_index: Which process this is.
        process_count: How many processes there are.
    """

    mode: str | None = None
    devices: int = 1
    scope: Callable[[], Any] = contextlib.nullcontext
    process_index: int = 0
    process_count: int = 1

    def check(self, recipe: Recipe) -> None:
        """Raises ValueError if a recipe cannot be run on these devices."""
        of_pairs = self.process_count * (2 if recipe.augmentation.mixes else 1)
        divisor = math.lcm(self.devices, of_pairs) if self.mode else 1
        if recipe.micro_batch_size % divisor:
            lower, upper = (
                each * recipe.gradient_accumulation_steps for each in neighbouring_multiples(recipe.micro_batch_size, divisor)
            )
            raise InvalidValueError(
                f"batch_size {recipe.batch_size} cannot be shared by {self.devices} devices in {self.process_count} "
                f"processes, {recipe.micro_batch_size} pictures at once; use {lower} or {upper}."
            )
        if self.mode == MIRRORED and recipe.gradient_accumulation_steps > 1:
            raise InvalidValueError(
                f"gradient_accumulation_steps {recipe.gradient_accumulation_steps} do not go with distribute {MIRRORED!r}, where Keras "
                f"cannot put off an update; use 1, or distribute {DATA_PARALLEL!r}."
            )

    def describe(self) -> str:
        """The devices in words."""
        devices = "1 device" if self.devices == 1 else f"{self.devices} devices"
        of = "1 process" if self.process_count == 1 else f"{self.process_count} processes"
        return f"{devices} in {of} ({self.mode})"


@contextlib.contextmanager
def distributed(
    mode: str | None,
    *,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Iterator[Distribution]:
    """Context of a run on several devices.

    Args:
        mode: "mirrored": `tf.distribute.MirroredStrategy` over all devices of this machine, TensorFlow backend.
            "data-parallel": `keras.distribution.DataParallel` over all devices of all processes, JAX backend. None: one
            device.
        coordinator: Address of process 0 as host:port, where there are several processes. Defaults to None: the
            environment variable KERAS_DISTRIBUTION_JOB_ADDRESSES, whose first address counts, and else one process.
        num_processes: How many. Defaults to None: KERAS_DISTRIBUTION_NUM_PROCESSES.
        process_id: Which of them this is, from 0. Defaults to None: KERAS_DISTRIBUTION_PROCESS_ID.

    Yields:
        The devices.

    Raises:
        ValueError: arguments, backend and environment do not go together.
        ProcessLostError: another process was lost within the context.
    """
    hide_gpus_from_tensorflow()
    address = _checked_address(mode, coordinator, num_processes, process_id)
    if mode != DATA_PARALLEL:
        yield Distribution() if mode is None else _mirrored()
        return
    if address is None:
        with _shared_by_jax() as distribution:
            yield distribution
        return
    coordinator, num_processes, process_id = address
    prefix = f"keras-crossvit train: process {process_id} of {num_processes}"
    with last_words() as settle:
        settle(
            f"{prefix} did not find the others by way of {coordinator} within {START_TIMEOUT} s; start the "
            f"same command with every process id from 0 to {num_processes - 1}, and let {coordinator} be an address of "
            "process 0 that all can reach."
        )
        connect(*address)
        settle(
            f"{prefix} was ended, because process 0 or the connection to it was lost or by a signal; "
            f"{restart_hint(num_processes)}"
        )
        with explain_lost_process(), _shared_by_jax() as distribution:
            yield distribution


def plan_distribution(
    mode: str | None,
    *,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Distribution:
    """The devices of a run, without connecting its processes.

    Takes the arguments of `distributed` and raises its ValueError. Of the other processes it is assumed that they have
    as many devices as this one.
    """
    hide_gpus_from_tensorflow()
    address = _checked_address(mode, coordinator, num_processes, process_id)
    if mode != DATA_PARALLEL:
        return Distribution() if mode is None else _mirrored()
    count, index = (1, 0) if address is None else address[1:]
    devices = count * len(keras.distribution.list_devices())
    return Distribution(mode, devices, process_index=index, process_count=count)


def _checked_address(mode: str | None, *given: Any) -> tuple[str, int, int] | None:
    """Coordinator, number of processes and this one's id, if the run is shared by several."""
    if mode is not None and mode not in BACKEND_OF:
        raise InvalidValueError(f"distribute {mode!r} is unknown; use one of {', '.join(BACKEND_OF)}.")
    _require_backend(mode)
    if mode == DATA_PARALLEL:
        return _address(*given)
    _refuse_processes(*given)
    return None


def _mirrored() -> Distribution:
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    return Distribution(MIRRORED, len(names), lambda: tf.distribute.MirroredStrategy(names).scope())


@contextlib.contextmanager
def _shared_by_jax() -> Iterator[Distribution]:
    former = keras.distribution.distribution()
    # Each process makes its own rows of a batch, so there is nothing left for Keras to share out.
    shared = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(shared)
    try:
        yield Distribution(
            DATA_PARALLEL,
            shared.num_model_replicas,
            process_index=process_index(),
            process_count=process_count(),
        )
    finally:
        keras.distribution.set_distribution(former)


def _require_backend(mode: str | None) -> None:
    backend, needed = keras.backend.backend(), BACKEND_OF.get(mode)
    if needed is not None and backend != needed:
        other = next(each for each in BACKEND_OF if each != mode)
        hint = f", or use distribute {other!r}" if BACKEND_OF[other] == backend else ""
        raise InvalidValueError(
            f"distribute {mode!r} needs Keras on {needed}, and this is {backend}; set KERAS_BACKEND={needed} in the "
            f"environment{hint}."
        )


def _refuse_processes(*given: Any) -> None:
    for name, value in zip(_ENVIRONMENT, given, strict=True):
        if value is not None:
            raise InvalidValueError(f"{name} {value!r} goes with distribute {DATA_PARALLEL!r} alone; leave it out.")


def _address(*given: Any) -> tuple[str, int, int] | None:
    """Coordinator, number of processes and this one's id; None if there is but one."""
    pairs = zip(_ENVIRONMENT.items(), given, strict=True)
    values = {name: os.environ.get(variable) if value is None else value for (name, variable), value in pairs}
    missing = [name for name, value in values.items() if value is None]
    if len(missing) == len(values):
        return None
    if missing:
        raise InvalidValueError(
            f"{missing[0]} is missing, where {next(name for name in values if name not in missing)} is given; give all "
            f"three of {', '.join(values)}, or set {_ENVIRONMENT[missing[0]]} in the environment."
        )
    coordinator = str(values["coordinator"]).split(",")[0].strip()
    if not re.fullmatch(r".+:\d{1,5}", coordinator):
        raise InvalidValueError(f"coordinator {coordinator!r} is no address; use host:port, such as 10.0.0.1:12345.")
    count = require_integer("num_processes", _whole(values["num_processes"]), minimum=1)
    index = require_integer("process_id", _whole(values["process_id"]), minimum=0)
    if index >= count:
        raise InvalidValueError(f"process_id {index} is not one of {count} processes; count from 0 to {count - 1}.")
    return coordinator, count, index


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value
