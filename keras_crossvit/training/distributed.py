"""Training on several devices or machines: `tf.distribute` on TensorFlow, `keras.distribution` on JAX."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_crossvit._internal.checks import neighbouring_multiples, require_integer, require_known
from keras_crossvit._internal.devices import hide_gpus_from_tensorflow
from keras_crossvit._internal.errors import InvalidValueError, ProcessLostError, first_line
from keras_crossvit._internal.log import logger
from keras_crossvit.training.recipes import Recipe

MIRRORED = "mirrored"
DATA_PARALLEL = "data-parallel"
BACKEND_OF = {MIRRORED: "tensorflow", DATA_PARALLEL: "jax"}
# Keras' own variables, which `keras.distribution.initialize` reads.
_ENVIRONMENT = {
    "coordinator": "KERAS_DISTRIBUTION_JOB_ADDRESSES",
    "num_processes": "KERAS_DISTRIBUTION_NUM_PROCESSES",
    "process_id": "KERAS_DISTRIBUTION_PROCESS_ID",
}
# In errors of JAX about a lost process: its collectives on CPUs and GPUs, and its coordination service.
_SIGNS_OF_LOSS = ("gloo", "nccl", "coordination service", "heartbeat")


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Devices that share a run.

    Args:
        mode: "mirrored", "data-parallel", or None for one device.
        devices: Number of devices of all processes.
        scope: Context in which the model is built and compiled.
        process_index: Index of this process.
        process_count: Number of processes.
    """

    mode: str | None = None
    devices: int = 1
    scope: Callable[[], Any] = contextlib.nullcontext
    process_index: int = 0
    process_count: int = 1

    def check(self, recipe: Recipe) -> None:
        """Raises InvalidValueError if these devices cannot run a recipe."""
        images = self.process_count * (2 if recipe.augmentation.mixes else 1)  # mixing takes pairs of images
        divisor = math.lcm(self.devices, images) if self.mode else 1
        if recipe.micro_batch_size % divisor:
            sizes = neighbouring_multiples(recipe.micro_batch_size, divisor)
            lower, upper = (size * recipe.gradient_accumulation_steps for size in sizes)
            raise InvalidValueError(
                f"batch_size {recipe.batch_size} ({recipe.micro_batch_size} images per step) cannot be divided among "
                f"{self.devices} devices in {self.process_count} processes; use {lower} or {upper}."
            )
        if self.mode == MIRRORED:
            _require_correct_when_mirrored(recipe)

    def describe(self) -> str:
        """Returns a phrase such as "4 devices in 2 processes (data-parallel)"."""
        devices = "1 device" if self.devices == 1 else f"{self.devices} devices"
        processes = "1 process" if self.process_count == 1 else f"{self.process_count} processes"
        return f"{devices} in {processes} ({self.mode})"


def _require_correct_when_mirrored(recipe: Recipe) -> None:
    """Keras sums the gradients of the devices after everything else that looks at them."""
    if recipe.gradient_accumulation_steps > 1:
        field, reason, remedy = "gradient_accumulation_steps", "Keras updates the weights in every step", "1"
    elif recipe.global_clipnorm is not None:
        field, reason, remedy = "global_clipnorm", "Keras clips the gradients of each device by their own norm", "null"
    elif recipe.precision == "mixed_float16":
        field, reason, remedy = "precision", "Keras looks for overflow on one device only", "mixed_bfloat16"
    else:
        return
    raise InvalidValueError(
        f"{field} {getattr(recipe, field)} is not supported by distribute {MIRRORED!r}, where {reason}; train with "
        f"distribute {DATA_PARALLEL!r} on JAX, or with --set {field}={remedy}."
    )


@contextlib.contextmanager
def distributed(
    mode: str | None, *, coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> Iterator[Distribution]:
    """Context of a run on several devices. Processes other than the first log only warnings in it.

    Args:
        mode: "mirrored": `tf.distribute.MirroredStrategy` over all devices of this machine, on the TensorFlow backend.
            "data-parallel": `keras.distribution.DataParallel` over all devices of all processes, on the JAX backend.
            None: one device.
        coordinator: Address of process 0 as host:port, if there are several processes. Defaults to None: the first
            address in KERAS_DISTRIBUTION_JOB_ADDRESSES, or one process.
        num_processes: Number of processes. Defaults to None: KERAS_DISTRIBUTION_NUM_PROCESSES.
        process_id: Index of this process. Defaults to None: KERAS_DISTRIBUTION_PROCESS_ID.

    Raises:
        InvalidValueError: arguments, backend and environment do not fit together.
        ProcessLostError: another process of the run was lost.
    """
    address = _check_arguments(mode, coordinator, num_processes, process_id)
    if mode != DATA_PARALLEL:
        yield _on_this_machine(mode)
        return
    if address is not None:
        _connect(*address)
    former, level = keras.distribution.distribution(), logger.level
    # Each process makes its own part of a batch, so Keras must not shard the dataset again.
    shared = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(shared)
    if not is_first_process():
        logger.setLevel(logging.WARNING)
    index, count = process_index(), process_count()
    try:
        yield Distribution(mode, shared.num_model_replicas, process_index=index, process_count=count)
    except Exception as error:
        if count == 1 or not any(sign in str(error).lower() for sign in _SIGNS_OF_LOSS):
            raise
        raise ProcessLostError(
            f"Process {index} of {count} has lost another process ({first_line(error)}). Run the same command in every "
            "process to resume from the last saved state."
        ) from error
    finally:
        logger.setLevel(level)
        keras.distribution.set_distribution(former)


def plan_distribution(
    mode: str | None, *, coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> Distribution:
    """Returns the devices of a run without connecting its processes, which are assumed to have equal devices.

    Takes the arguments of `distributed` and raises its InvalidValueError.
    """
    address = _check_arguments(mode, coordinator, num_processes, process_id)
    if mode != DATA_PARALLEL:
        return _on_this_machine(mode)
    count, index = (1, 0) if address is None else address[1:]
    devices = count * len(keras.distribution.list_devices())
    return Distribution(mode, devices, process_index=index, process_count=count)


def _check_arguments(mode: str | None, *processes: Any) -> tuple[str, int, int] | None:
    """Returns coordinator, number of processes and index of this one if several processes share the run."""
    hide_gpus_from_tensorflow()
    if mode is not None:
        require_known("distribute mode", mode, BACKEND_OF)
        if keras.backend.backend() != BACKEND_OF[mode]:
            raise InvalidValueError(
                f"distribute {mode!r} does not run on the backend {keras.backend.backend()}; set "
                f"KERAS_BACKEND={BACKEND_OF[mode]} in the environment."
            )
    given = dict(zip(_ENVIRONMENT, processes, strict=True))
    if mode != DATA_PARALLEL:
        for name, value in given.items():
            if value is not None:
                raise InvalidValueError(f"{name} {value!r} needs distribute {DATA_PARALLEL!r}; leave it out.")
        return None
    values = {name: os.environ.get(_ENVIRONMENT[name]) if value is None else value for name, value in given.items()}
    missing = [name for name, value in values.items() if value is None]
    if len(missing) == len(values):
        return None
    if missing:
        raise InvalidValueError(
            f"{missing[0]} is missing; give all of {', '.join(values)}, or set {_ENVIRONMENT[missing[0]]} in the "
            "environment."
        )
    coordinator = str(values["coordinator"]).split(",")[0].strip()
    if not re.fullmatch(r".+:\d{1,5}", coordinator):
        raise InvalidValueError(f"coordinator {coordinator!r} is not an address; use host:port, e.g. 10.0.0.1:12345.")
    numbers = {name: int(str(value)) if str(value).isdecimal() else value for name, value in values.items()}
    count = require_integer("num_processes", numbers["num_processes"], minimum=1)
    index = require_integer("process_id", numbers["process_id"], minimum=0)
    if index >= count:
        raise InvalidValueError(f"process_id {index} is not one of {count} processes; count from 0 to {count - 1}.")
    return coordinator, count, index


def _on_this_machine(mode: str | None) -> Distribution:
    if mode is None:
        return Distribution()
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    return Distribution(mode, len(names), lambda: tf.distribute.MirroredStrategy(names).scope())


def _connect(coordinator: str, num_processes: int, process_id: int) -> None:
    # JAX ends the process without an exception if this fails, so this line has to say what to check.
    logger.info(
        f"Process {process_id} waits for the others at {coordinator}. Start the same command with every process id "
        f"from 0 to {num_processes - 1}; this is an address of process 0 that all must reach."
    )
    try:
        keras.distribution.initialize(coordinator, num_processes, process_id)
    except RuntimeError as error:
        raise InvalidValueError(
            f"The processes cannot be connected any more ({first_line(error)}). Call train before JAX computes "
            "anything, which includes building a model; pass the model by its name."
        ) from error


def _are_connected() -> bool:
    return keras.backend.backend() == "jax" and _jax().distributed.is_initialized()


def process_count() -> int:
    """Returns the number of processes that share the run; 1 unless JAX has connected several."""
    return _jax().process_count() if _are_connected() else 1


def process_index() -> int:
    """Returns the index of this process."""
    return _jax().process_index() if _are_connected() else 0


def is_first_process() -> bool:
    """Returns whether this process is the one that writes files and prints."""
    return process_index() == 0


def disconnect() -> None:
    """Waits until all processes have called this, then disconnects them."""
    if _are_connected():
        _jax().distributed.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # JAX has replaced it outside of Python


def wait_for_all(place: str) -> None:
    """Waits until all processes have reached a place in the program."""
    if process_count() > 1:
        _multihost().sync_global_devices(place)


def require_agreement(label: str, value: Any, remedy: str) -> None:
    """Raises InvalidValueError in every process unless all have the same value, which is a short JSON value."""
    if process_count() > 1:
        encoded = np.frombuffer(json.dumps(value).encode().ljust(256), np.uint8)
        values = [bytes(row).decode().strip() for row in _multihost().process_allgather(encoded)]
        if len(set(values)) > 1:
            listed = ", ".join(f"{each} in process {i}" for i, each in enumerate(values))
            raise InvalidValueError(f"{label} differs between the processes ({listed}); {remedy}")


def all_stop_here(step: int) -> bool:
    """Returns whether a process was asked to stop and all stop after this step; must be called in every step."""
    return process_count() > 1 and _multihost().reached_preemption_sync_point(step)


@contextlib.contextmanager
def without_distribution() -> Iterator[None]:
    """Context in which variables belong to this process only, so that other processes need not create them too."""
    shared = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(shared)


def as_value_of(variable: Any, array: np.ndarray) -> Any:
    """Returns an array as a value for a variable, without comparing it with the values of other processes."""
    if process_count() == 1:
        return array
    return _jax().make_array_from_callback(array.shape, variable.value.sharding, lambda index: array[index])


def _jax() -> Any:
    import jax

    return jax


def _multihost() -> Any:
    from jax.experimental import multihost_utils

    return multihost_utils
