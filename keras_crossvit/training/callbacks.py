"""Callbacks of a run: progress, metrics table, best model, and a stop when the loss is not finite."""

from __future__ import annotations

import contextlib
import math
import re
import sys
import time
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import tensorflow as tf
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from keras_crossvit._internal.errors import OperationError, listed
from keras_crossvit._internal.files import atomic_write, write_table
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.user_text import one_line
from keras_crossvit.checkpoints import load_checkpoint, state_dict
from keras_crossvit.layers._factories import skip_init
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.training.distributed import is_first_process, without_distribution
from keras_crossvit.training.optimization import EvaluateEMA, learning_rate_now
from keras_crossvit.training.plan import Plan
from keras_crossvit.training.resume import AFTER_DIVERGENCE, ResumableState
from keras_crossvit.training.state import StatefulCallback, is_epoch_count


class Progress(StatefulCallback):
    """Shows a progress bar on a terminal, logs a line per epoch, and appends it to a file; in the first process."""

    def __init__(self, plan: Plan, resume: ResumableState, *, log: Path, show_bar: bool) -> None:
        super().__init__()
        self._epochs = plan.recipe.epochs
        self._steps = plan.steps_per_epoch
        self._images_per_step = plan.recipe.micro_batch_size
        self._log = log
        self._resume = resume
        self._show_bar = show_bar and is_first_process() and sys.stdout.isatty()
        self._bar: ProgressBar | None = None
        self._started = self._first_step_done = self._last_step_done = time.perf_counter()
        self._steps_here = 0

    @property
    def seconds(self) -> float:
        """Seconds since the start of the epoch, including evaluation."""
        return time.perf_counter() - self._started

    @property
    def images_per_second(self) -> float:
        """Training speed in this epoch without its first step, in which Keras traces; 0 if there is no other."""
        elapsed = self._last_step_done - self._first_step_done
        return (self._steps_here - 1) * self._images_per_step / elapsed if elapsed > 0 else 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts a bar."""
        self._started = time.perf_counter()
        self._steps_here = 0
        if self._show_bar:
            self._bar = ProgressBar(
                TextColumn(f"epoch {epoch + 1}/{self._epochs}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(compact=True),
                transient=True,
            )
            self._bar.add_task("", total=self._steps, completed=self._resume.position.batch)
            self._bar.start()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Advances the bar."""
        self._last_step_done = time.perf_counter()
        self._steps_here += 1
        if self._steps_here == 1:
            self._first_step_done = self._last_step_done
        if self._bar is not None:
            description = f"loss {(logs or {}).get('loss', math.nan):.4f}"
            if self.images_per_second:
                position = self._resume.position
                steps_left = (self._epochs - position.epoch) * self._steps - position.batch
                time_left = format_duration(steps_left * self._images_per_step / self.images_per_second)
                description += f" · {self.images_per_second:.1f} images/s · run {time_left} · epoch"
            self._bar.update(self._bar.task_ids[0], advance=1, description=description)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Ends the bar, and logs the metrics."""
        self.close()
        metrics = " · ".join(f"{name} {value:.4f}" for name, value in metrics_in(logs).items())
        speed = f" · {self.images_per_second:.1f} images/s" if self.images_per_second else ""
        line = f"epoch {epoch + 1}/{self._epochs} · {metrics}{speed} · {format_duration(self.seconds)}"
        logger.info(line)
        if is_first_process():
            append_to_log(self._log, line)

    def close(self) -> None:
        """Removes the bar, also after an interrupt."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


_TIMES = ("seconds", "images_per_second")
_COLUMNS = {"epoch", "learning_rate", "loss", *_TIMES}  # of every row; metrics are added


def _are_rows(value: Any, epochs: int) -> bool:
    """Returns whether a value can be the rows of `MetricsTable`. Metrics may be NaN."""
    if not isinstance(value, list) or len(value) != epochs or not all(isinstance(row, dict) for row in value):
        return False
    return all(
        row.keys() == value[0].keys() >= _COLUMNS
        and all(re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,99}", name) for name in row)
        and type(row["epoch"]) is int
        and row["epoch"] == number
        and all(type(metric) is float for name, metric in row.items() if name != "epoch")
        and all(0 <= row[name] < math.inf for name in _TIMES)
        for number, row in enumerate(value, start=1)
    )


class MetricsTable(StatefulCallback):
    """Writes learning rate, losses, metrics and times of every epoch, as CSV and for TensorBoard."""

    saved_attributes: ClassVar = {"rows": _are_rows}

    def __init__(self, path: str | PathLike, logs: str | PathLike, progress: Progress) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._path = Path(path)
        self._logs = Path(logs)
        self._progress = progress
        self._writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the row of the epoch."""
        row = {
            "epoch": epoch + 1,
            "learning_rate": learning_rate_now(self.model.optimizer),
            **metrics_in(logs),
            "seconds": round(self._progress.seconds, 3),
            "images_per_second": round(self._progress.images_per_second, 2),
        }
        self.rows = [*self.rows, row]
        if is_first_process():
            write_table(self._path, self.rows)
            self._write_events(row)

    def _write_events(self, row: Mapping[str, float]) -> None:
        # keras.callbacks.TensorBoard and tf.summary.scalar need TensorBoard installed, even for writing.
        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"),
            data_class=1,  # DATA_CLASS_SCALAR of TensorBoard's summary.proto
        )
        for name in row.keys() - {"epoch"}:
            split = "validation" if name.startswith("val_") else "train"  # folders as of Keras' callback
            if split not in self._writers:
                self._writers[split] = tf.summary.create_file_writer(str(self._logs / split))
            tag, value = f"epoch_{name.removeprefix('val_')}", tf.constant(row[name], tf.float32)
            with self._writers[split].as_default():
                tf.summary.write(tag, value, int(row["epoch"]), metadata)
        for writer in self._writers.values():
            writer.flush()


class BestModel(StatefulCallback):
    """Saves the model of the best epoch as a `.keras` file, atomically. Of equal epochs the first is kept.

    Args:
        path: The file.
        trained: The `CrossViT` that is trained.
        monitor: Metric that compares epochs.
        mode: "max" or "min".
        classifier_activation: Activation that the saved model applies to its logits. Defaults to None.
        averages: Swaps in the EMA of the weights, which is then saved. Defaults to None.
    """

    saved_attributes: ClassVar = {
        "best": lambda value, epochs: type(value) is float and not math.isnan(value),
        "best_epoch": lambda value, epochs: is_epoch_count(value, epochs) and value > 0 if epochs else value is None,
    }

    def __init__(
        self,
        path: str | PathLike,
        trained: CrossViT,
        *,
        monitor: str,
        mode: str,
        classifier_activation: str | None = None,
        averages: EvaluateEMA | None = None,
    ) -> None:
        super().__init__()
        self.best = -math.inf if mode == "max" else math.inf
        self.best_epoch: int | None = None
        self._path = Path(path)
        self._trained = trained
        self._monitor = monitor
        self._sign = 1 if mode == "max" else -1
        self._activation = classifier_activation
        self._averages = averages

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves the model if it is the best so far. The first epoch is, even if its metric is NaN."""
        value = float((logs or {})[self._monitor])
        is_better = self._sign * value > self._sign * self.best
        if is_better or self.best_epoch is None:
            self.best, self.best_epoch = value if is_better else self.best, epoch + 1
            with self._averages.in_place(self.model) if self._averages else contextlib.nullcontext():
                save_without_optimizer(self._trained, self._path, self._activation)


class FiniteLoss(StatefulCallback):
    """Stops a run with an error in the step in which its loss becomes NaN or infinite, before anything is saved.

    Args:
        resume: Knows the position, and where the last state is.
        images_of: Function of (epoch, batch) that returns the names of the batch's images.
        log: File to which all of these names are appended.
    """

    def __init__(self, resume: ResumableState, images_of: Callable[[int, int], list[str]], log: Path) -> None:
        super().__init__()
        self._resume = resume
        self._images_of = images_of
        self._log = log

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Raises OperationError if the loss is not finite."""
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            position = self._resume.position
            where = f"The loss is {loss:g} in epoch {position.epoch + 1}, step {position.batch + 1}"
            images = self._images_of(position.epoch, position.batch)
            if is_first_process():
                append_to_log(self._log, f"{where} · {', '.join(map(one_line, images))}")
            raise OperationError(
                f"{where}, at learning rate {learning_rate_now(self.model.optimizer):.3g}: training has diverged. "
                f"{self._resume.states.describe_last()}. The batch is {listed(images, 3)}, all in '{self._log}'. "
                f"{AFTER_DIVERGENCE}"
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Raises OperationError if the validation loss or weights are not finite."""
        loss = float((logs or {}).get("val_loss", 0.0))
        if not math.isfinite(loss):
            raise OperationError(
                f"The validation loss is {loss:g} after epoch {epoch + 1}: training has diverged. "
                f"{self._resume.states.describe_last()}. {AFTER_DIVERGENCE}"
            )
        self._resume.require_finite_weights(f"epoch {epoch + 1}")


def save_without_optimizer(model: CrossViT, path: str | PathLike, classifier_activation: str | None) -> None:
    """Writes a `.keras` file without the optimizer, which would triple its size; atomically, in the first process."""
    if is_first_process():
        with without_distribution():
            with skip_init():
                plain = CrossViT.from_config({**model.get_config(), "classifier_activation": classifier_activation})
            load_checkpoint(plain, state_dict(model), allow_nonfinite=True)  # by name, which merges LoRA
            plain.calibration = model.calibration
            with atomic_write(path) as unfinished:
                plain.save(unfinished)


def append_to_log(path: Path, line: str) -> None:
    """Appends a line to a run's log, after date and time."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")


def metrics_in(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """Returns the metrics of an epoch, without `total_loss`, a Distiller's second name of the loss."""
    return {name: float(value) for name, value in (logs or {}).items() if name.removeprefix("val_") != "total_loss"}


def format_duration(seconds: float) -> str:
    """Returns seconds as "4.1 s", "3 min 05 s" or "2 h 10 min"."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
