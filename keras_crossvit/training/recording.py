"""What a run writes while it trains: a table of metrics, logs for TensorBoard, the best model; and where it ends early.

Where several processes share a run, all of them compute this and the first writes it.
"""

from __future__ import annotations

import math
import re
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import keras

from keras_crossvit.checkpoints import load_checkpoint, state_dict
from keras_crossvit.crossvit import CrossViT
from keras_crossvit.files import write_table, written_whole
from keras_crossvit.training.averaging import EvaluateAverages
from keras_crossvit.training.carried import CarryingCallback, is_count
from keras_crossvit.training.optimization import learning_rate_now
from keras_crossvit.training.processes import alone, is_first_process
from keras_crossvit.training.progress import Progress, figures_of
from keras_crossvit.training.resuming import ExactResume
from keras_crossvit.training.scalar_logs import ScalarLogs

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
            **figures_of(logs),
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

    def __init__(self, resume: ExactResume) -> None:
        super().__init__()
        self._resume = resume

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Raises RuntimeError if the loss is not finite, before a state is written."""
        loss = float((logs or {}).get("loss", 0.0))
        if math.isfinite(loss):
            return
        position = self._resume.position
        raise RuntimeError(
            f"the loss is {loss:g} in epoch {position.epoch + 1}, step {position.batch + 1}, at a learning rate of "
            f"{learning_rate_now(self.model.optimizer):.3g}: the run has diverged; train with a smaller learning_rate, "
            "a clip_norm, or another precision than mixed_float16, and into another folder."
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
        averages: EvaluateAverages | None = None,
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
    with alone():
        plain = CrossViT.from_config({**model.get_config(), "classifier_activation": classifier_activation})
        load_checkpoint(plain, state_dict(model), allow_nonfinite=True)  # by name, which merges LoRA; judged elsewhere
        with written_whole(path) as unfinished:
            plain.save(unfinished)


def monitored(metrics: Any, *, has_validation: bool) -> tuple[str, str]:
    """Metric by which epochs are compared, and whether more or less of it is better."""
    if not has_validation:
        return "loss", "min"
    names = [metric.name for metric in metrics]
    return ("val_auc_pr" if "auc_pr" in names else "val_accuracy"), "max"
