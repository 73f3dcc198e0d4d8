"""What a run shows while it trains: a bar on a terminal, a line per epoch everywhere."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from keras_crossvit._internal.errors import OperationError
from keras_crossvit._internal.files import atomic_write, write_table
from keras_crossvit.checkpoints import load_checkpoint, state_dict
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.training.callback_state import CarryingCallback, is_count
from keras_crossvit.training.distributed import is_first_process, without_distribution
from keras_crossvit.training.optimization import EvaluateEMA, learning_rate_now
from keras_crossvit.training.resume import ResumableState

_SCALAR = 1  # tensorboard.compat.proto.summary_pb2.DATA_CLASS_SCALAR


class ScalarLogs:
    """Event files of training and validation in a folder each, as Keras' `TensorBoard` callback names them.

    That callback, and `tf.summary.scalar` under it, needs TensorBoard installed; reading does, writing does not.

    Args:
        folder: Folder of the two.
    """

    def __init__(self, folder: str | PathLike) -> None:
        self._folder = Path(folder)
        self._writers: dict[str, Any] = {}

    def write(self, row: Mapping[str, float]) -> None:
        """Writes a row of figures at the step of its `epoch`; those that begin with `val_` are of validation."""
        import tensorflow as tf

        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=_SCALAR
        )
        for name, value in row.items():
            if name == "epoch":
                continue
            split = "validation" if name.startswith("val_") else "train"
            if split not in self._writers:
                self._writers[split] = tf.summary.create_file_writer(str(self._folder / split))
            with self._writers[split].as_default():
                tf.summary.write(
                    f"epoch_{name.removeprefix('val_')}", tf.constant(value, tf.float32), int(row["epoch"]), metadata
                )
        for writer in self._writers.values():
            writer.flush()


# What every row has, and the report reads.
_TIMES = ("seconds", "images_per_second")
_COLUMNS = {"epoch", "learning_rate", "loss", *_TIMES}


def _are_rows(value: Any, epochs: int) -> bool:
    """Whether a value is a table that `MetricsTable` has after so many epochs; some metrics may be NaN."""
    if not isinstance(value, list) or len(value) != epochs or not all(isinstance(row, dict) for row in value):
        return False
    return all(
        row.keys() == value[0].keys() >= _COLUMNS
        and all(re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,99}", name) for name in row)
        and type(row["epoch"]) is int
        and row["epoch"] == number
        and all(type(figure) is float for name, figure in row.items() if name != "epoch")
        and all(0 <= row[name] < math.inf for name in _TIMES)
        for number, row in enumerate(value, start=1)
    )


class MetricsTable(CarryingCallback):
    """A row per epoch: learning rate, losses and metrics, time; in `metrics.csv` and for TensorBoard.

    Args:
        path: The table, which is written anew after every epoch.
        logs: Folder of TensorBoard's event files.
        progress: Whose times the rows hold.
    """

    carries: ClassVar = {"rows": _are_rows}

    def __init__(self, path: str | PathLike, logs: str | PathLike, progress: Progress) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._path = Path(path)
        self._logs = ScalarLogs(logs)
        self._progress = progress

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the epoch's row."""
        row = {
            "epoch": epoch + 1,
            "learning_rate": learning_rate_now(self.model.optimizer),
            **metrics_in(logs),
            "seconds": round(self._progress.seconds, 3),
            "images_per_second": round(self._progress.images_per_second, 2),
        }
        self.rows = [*self.rows, row]
        if not is_first_process():
            return
        write_table(self._path, self.rows)
        self._logs.write(row)


class FiniteLoss(keras.callbacks.Callback):
    """Ends a run with one line at the first step after which its loss is no number any more.

    Args:
        resume: Where the run stands.
    """

    def __init__(self, resume: ResumableState) -> None:
        super().__init__()
        self._resume = resume

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Raises RuntimeError if the loss is not finite, before a state is written."""
        loss = float((logs or {}).get("loss", 0.0))
        if math.isfinite(loss):
            return
        position = self._resume.position
        raise OperationError(
            f"the loss is {loss:g} in epoch {position.epoch + 1}, step {position.batch + 1}, at a learning rate of "
            f"{learning_rate_now(self.model.optimizer):.3g}: the run has diverged; train with a smaller learning_rate, "
            "a global_clipnorm, or another precision than mixed_float16, and into another folder."
        )


class BestModel(CarryingCallback):
    """Keeps the model of the best epoch in a file, written whole or not at all.

    Args:
        path: The `.keras` file.
        trained: The `CrossViT` that is trained.
        monitor: Metric by which epochs are compared; of equal ones the first counts.
        mode: "max" or "min".
        classifier_activation: What the saved model makes of its logits. Defaults to None: nothing.
        averages: The running mean of the weights, which is then what is saved. Defaults to None.
    """

    carries: ClassVar = {
        "best": lambda value, epochs: type(value) is float and not math.isnan(value),
        "best_epoch": lambda value, epochs: is_count(value, epochs) and value > 0 if epochs else value is None,
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
        """Saves the model if it is the best so far."""
        value = float((logs or {})[self._monitor])
        is_better = self._sign * value > self._sign * self.best
        if not is_better and self.best_epoch is not None:
            return  # the first epoch counts also where it has no figure to compare
        self.best, self.best_epoch = value if is_better else self.best, epoch + 1
        if self._averages is None:
            save_without_optimizer(self._trained, self._path, self._activation)
            return
        with self._averages.in_place(self.model):
            save_without_optimizer(self._trained, self._path, self._activation)


def save_without_optimizer(model: CrossViT, path: str | PathLike, classifier_activation: str | None) -> None:
    """Writes a `.keras` file of the model alone, a third of the size of a compiled one; whole or not at all.

    Args:
        model: The model, which gives logits.
        path: The file.
        classifier_activation: What the saved model makes of them, or None.
    """
    if not is_first_process():
        return
    with without_distribution():
        plain = CrossViT.from_config({**model.get_config(), "classifier_activation": classifier_activation})
        load_checkpoint(plain, state_dict(model), allow_nonfinite=True)  # by name, which merges LoRA; judged elsewhere
        with atomic_write(path) as unfinished:
            plain.save(unfinished)


def monitored(metrics: Any, *, has_validation: bool) -> tuple[str, str]:
    """Metric by which epochs are compared, and whether more or less of it is better."""
    if not has_validation:
        return "loss", "min"
    names = [metric.name for metric in metrics]
    return ("val_auc_pr" if "auc_pr" in names else "val_accuracy"), "max"


class Progress(keras.callbacks.Callback):
    """Shows steps, pictures per second and the time left, and adds a line per epoch to a log file.

    Where several processes share a run, the first alone does.

    Args:
        epochs: Epochs of the run.
        steps_per_epoch: Steps of an epoch.
        images_per_step: Pictures of a step.
        log: File to which lines are appended.
        resume: Where the run stands.
        quiet: Whether nothing is shown. Defaults to False.
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        *,
        images_per_step: int,
        log: str | PathLike,
        resume: ResumableState,
        quiet: bool = False,
    ) -> None:
        super().__init__()
        self._epochs = epochs
        self._steps = steps_per_epoch
        self._images_per_step = images_per_step
        self._log = Path(log)
        self._resume = resume
        self._quiet = quiet
        self._console = Console(quiet=quiet or not is_first_process() or not sys.stdout.isatty())
        self._bar: RichProgress | None = None
        self._begun = self._first_step_done = self._last_step_done = time.perf_counter()
        self._steps_here = 0

    @property
    def seconds(self) -> float:
        """Time of the epoch so far, evaluation included."""
        return time.perf_counter() - self._begun

    @property
    def images_per_second(self) -> float:
        """Pictures trained on per second in this epoch; the first step, in which Keras traces, is left out."""
        elapsed = self._last_step_done - self._first_step_done
        return (self._steps_here - 1) * self._images_per_step / elapsed if elapsed > 0 else 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Begins a bar."""
        self._begun = time.perf_counter()
        self._steps_here = 0
        columns = (
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TextColumn("epoch"),
            TimeRemainingColumn(compact=True),
            TextColumn("run {task.fields[left]}"),
        )
        self._bar = RichProgress(*columns, console=self._console, transient=True)
        self._bar.start()
        self._bar.add_task(
            "", total=self._steps, completed=self._resume.position.batch, epoch=f"{epoch + 1}/{self._epochs}",
            metrics="", left="",
        )  # fmt: skip

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Moves the bar."""
        self._last_step_done = time.perf_counter()
        self._steps_here += 1
        if self._steps_here == 1:
            self._first_step_done = self._last_step_done
        if self._bar is None or self._console.quiet:
            return
        metrics = f"loss {(logs or {}).get('loss', float('nan')):.4f}"
        left = ""
        if self.images_per_second:
            metrics += f" · {self.images_per_second:.1f} images/s"
            steps_left = self._steps * self._epochs - (
                self._resume.position.epoch * self._steps + self._resume.position.batch
            )
            left = format_duration(steps_left * self._images_per_step / self.images_per_second)
        self._bar.update(self._bar.task_ids[0], advance=1, metrics=metrics, left=left)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Ends the bar, and leaves a line."""
        self._end_bar()
        metrics = " · ".join(f"{name} {value:.4f}" for name, value in metrics_in(logs).items())
        speed = f" · {self.images_per_second:.1f} images/s" if self.images_per_second else ""
        self.say(f"epoch {epoch + 1}/{self._epochs} · {metrics}{speed} · {format_duration(self.seconds)}")

    def say(self, line: str) -> None:
        """Shows a line and adds it to the log file."""
        if not is_first_process():
            return
        if not self._quiet:
            print(line, flush=True)
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")

    def close(self) -> None:
        """Gives the terminal back, also after an interrupt."""
        self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def metrics_in(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """Figures of an epoch by name, without the loss that `keras.distillation.Distiller` gives a second name."""
    return {name: float(value) for name, value in (logs or {}).items() if name.removeprefix("val_") != "total_loss"}


def format_duration(seconds: float) -> str:
    """Seconds as "41 s", "3 min 05 s" or "2 h 10 min"."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
