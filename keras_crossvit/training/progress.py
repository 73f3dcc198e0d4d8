"""What a run shows while it trains: a bar on a terminal, a line per epoch everywhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from keras_crossvit.training.processes import is_first_process
from keras_crossvit.training.resuming import ExactResume


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
        resume: ExactResume,
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
            TextColumn("{task.fields[figures]}"),
            TextColumn("epoch"),
            TimeRemainingColumn(compact=True),
            TextColumn("run {task.fields[left]}"),
        )
        self._bar = RichProgress(*columns, console=self._console, transient=True)
        self._bar.start()
        self._bar.add_task(
            "", total=self._steps, completed=self._resume.position.batch, epoch=f"{epoch + 1}/{self._epochs}",
            figures="", left="",
        )  # fmt: skip

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Moves the bar."""
        self._last_step_done = time.perf_counter()
        self._steps_here += 1
        if self._steps_here == 1:
            self._first_step_done = self._last_step_done
        if self._bar is None or self._console.quiet:
            return
        figures = f"loss {(logs or {}).get('loss', float('nan')):.4f}"
        left = ""
        if self.images_per_second:
            figures += f" · {self.images_per_second:.1f} images/s"
            steps_left = self._steps * self._epochs - (
                self._resume.position.epoch * self._steps + self._resume.position.batch
            )
            left = readable_time(steps_left * self._images_per_step / self.images_per_second)
        self._bar.update(self._bar.task_ids[0], advance=1, figures=figures, left=left)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Ends the bar, and leaves a line."""
        self._end_bar()
        figures = " · ".join(f"{name} {value:.4f}" for name, value in figures_of(logs).items())
        speed = f" · {self.images_per_second:.1f} images/s" if self.images_per_second else ""
        self.say(f"epoch {epoch + 1}/{self._epochs} · {figures}{speed} · {readable_time(self.seconds)}")

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


def figures_of(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """Figures of an epoch by name, without the loss that `keras.distillation.Distiller` gives a second name."""
    return {name: float(value) for name, value in (logs or {}).items() if name.removeprefix("val_") != "total_loss"}


def readable_time(seconds: float) -> str:
    """Seconds as "41 s", "3 min 05 s" or "2 h 10 min"."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
