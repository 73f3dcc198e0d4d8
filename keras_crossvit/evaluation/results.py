"""What an evaluation finds: figures, tables and pictures."""

from __future__ import annotations

import abc
import dataclasses
import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit._internal.files import shown_name, write_table, write_text
from keras_crossvit.evaluation.plots import draw_average_precision, draw_confusion, draw_reliability, try_to_draw

_SHOWN = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationResult(abc.ABC):
    """What every evaluation finds.

    Args:
        class_names: Names of the pictures' classes.
        images: How many pictures there were.
        loss: Mean cross-entropy, in nats.
        calibration_error: Expected calibration error over 15 bins: by how much confidence and what was right differ.
        per_class: A row of figures per class, its name and F1 among them.
        reliability: Mean confidence, share that was right and number of each bin, shape (15, 3).
        images_per_second: Speed, reading included.
    """

    class_names: tuple[str, ...]
    images: int
    loss: float
    calibration_error: float
    per_class: list[dict[str, Any]]
    reliability: np.ndarray
    images_per_second: float

    @property
    @abc.abstractmethod
    def headline(self) -> dict[str, float]:
        """The figures that count most, shares of 1, by what they are called."""

    @property
    @abc.abstractmethod
    def plots(self) -> dict[str, str]:
        """Names of the pictures that `write` draws, and what each shows."""

    @property
    def worst_first(self) -> list[dict[str, Any]]:
        """The rows of `per_class`, the least F1 first; classes of which there was no picture come last."""
        return sorted(self.per_class, key=lambda row: (row["images"] == 0, row["f1"]))

    def to_dict(self) -> dict[str, Any]:
        """All figures as JSON values."""
        fields = dataclasses.asdict(self)
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}

    def write(self, folder: str | PathLike) -> dict[str, str]:
        """Writes `evaluation.json`, `per_class.csv` and the drawings, each whole or not at all.

        Args:
            folder: Where to; it is made if need be.

        Returns:
            Names of the drawings that could not be made, and why.
        """
        folder = Path(folder)
        write_text(folder / "evaluation.json", json.dumps(self.to_dict(), indent=2) + "\n")
        write_table(folder / "per_class.csv", self.per_class)
        return self._draw(folder)

    def _draw(self, folder: Path) -> dict[str, str]:
        return try_to_draw(draw_reliability, folder / "reliability.png", self.reliability, self.calibration_error)

    def __str__(self) -> str:
        metrics = ", ".join(f"{name} {value:.2%}" for name, value in self.headline.items())
        lines = [
            f"{metrics} of {self.images} pictures in {len(self.class_names)} classes; loss {self.loss:.4f}; "
            f"calibration error {self.calibration_error:.2%}; {self.images_per_second:.1f} images/s"
        ]
        rows = self.worst_first[:_SHOWN]
        widths = {name: max(9, len(name)) + 2 for name in rows[0] if name != "class"}
        head = "".join(f"{name.replace('_', ' '):>{width}}" for name, width in widths.items())
        lines.append(f"{'class (worst first)':28}{head}")
        for row in rows:
            metrics = "".join(f"{shown(row[name]):>{width}}" for name, width in widths.items())
            lines.append(f"{shown_name(row['class'], 27):28}{metrics}")
        if len(self.per_class) > _SHOWN:
            lines.append(f"and {len(self.per_class) - _SHOWN} classes more")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation(EvaluationResult):
    """What a model makes of pictures of one class each; further arguments are those of `EvaluationResult`.

    Args:
        top1: Share of pictures whose most probable class is right.
        top5: Share of pictures whose class is among the five most probable; None with five classes or fewer.
        confusion: Pictures by class (rows) and most probable class (columns), shape (classes, classes).
    """

    top1: float
    top5: float | None
    confusion: np.ndarray

    @property
    def headline(self) -> dict[str, float]:
        """Top-1 and top-5 accuracy."""
        return {"top-1": self.top1} | ({} if self.top5 is None else {"top-5": self.top5})

    @property
    def plots(self) -> dict[str, str]:
        """Confusion and reliability."""
        return {"confusion.png": "What is taken for what", "reliability.png": "Accuracy by confidence"}

    def _draw(self, folder: Path) -> dict[str, str]:
        missing = try_to_draw(draw_confusion, folder / "confusion.png", self.confusion, self.class_names)
        return missing | super()._draw(folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiLabelEvaluation(EvaluationResult):
    """What a model makes of pictures of any number of classes each; further arguments are those of `EvaluationResult`.

    A class is claimed where its probability is 1/2 or more. The calibration error is that of all (picture, class).

    Args:
        mean_average_precision: Mean over the classes of the area under precision by recall; classes that no picture
            is of are left out.
        exact: Share of pictures of which every class is right.
    """

    mean_average_precision: float
    exact: float

    @property
    def headline(self) -> dict[str, float]:
        """Mean average precision, and how many pictures are right as a whole."""
        return {"mean average precision": self.mean_average_precision, "all classes right": self.exact}

    @property
    def plots(self) -> dict[str, str]:
        """Average precision and reliability."""
        return {"average_precision.png": "Average precision of each class", "reliability.png": "Share by probability"}

    def _draw(self, folder: Path) -> dict[str, str]:
        missing = try_to_draw(draw_average_precision, folder / "average_precision.png", self.per_class)
        return missing | super()._draw(folder)


def shown(figure: Any) -> str:
    """A figure of a table as text: a share in percent, a count as it is, nothing where there is none."""
    if figure is None:
        return "-"
    return f"{figure:.2%}" if isinstance(figure, float) else str(figure)
