"""Results of an evaluation: metrics, a table per class, plots."""

from __future__ import annotations

import abc
import dataclasses
import json
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from keras_crossvit._internal.figures import try_to_draw
from keras_crossvit._internal.files import write_table, write_text
from keras_crossvit._internal.user_text import shown_name
from keras_crossvit.evaluation.plots import draw_average_precision, draw_confusion, draw_reliability

_PRINTED_CLASSES = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationResult(abc.ABC):
    """What every evaluation has. Printed, it is a table.

    Args:
        class_names: Class names of the images.
        images: Number of images.
        loss: Mean cross-entropy, in nats.
        calibration_error: Expected calibration error over 15 bins of confidence.
        per_class: A row per class: name ("class"), number of images, precision, recall, F1.
        reliability: Mean confidence, accuracy and count of each bin, shape (15, 3).
        images_per_second: Speed, including reading and decoding.
    """

    class_names: tuple[str, ...]
    images: int
    loss: float
    calibration_error: float
    per_class: list[dict[str, Any]]
    reliability: np.ndarray
    images_per_second: float
    plots: ClassVar[dict[str, str]]  # file names of the plots that `write` draws, and what each shows
    only_in_memory: ClassVar[tuple[str, ...]] = ()  # fields that are not in `to_dict`

    @property
    @abc.abstractmethod
    def headline(self) -> dict[str, float]:
        """The most important metrics by their printed names, as fractions of 1."""

    @property
    def worst_first(self) -> list[dict[str, Any]]:
        """Rows of `per_class` by increasing F1; classes without images come last."""
        return sorted(self.per_class, key=lambda row: (row["images"] == 0, row["f1"]))

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values, except those of each image."""
        fields = {name: value for name, value in vars(self).items() if name not in self.only_in_memory}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}

    def write(self, folder: str | PathLike) -> dict[str, str]:
        """Writes `evaluation.json`, `per_class.csv` and the plots, each atomically.

        Args:
            folder: Folder to write to, which is created if needed.

        Returns:
            File names of plots that could not be drawn, and why.
        """
        folder = Path(folder)
        write_text(folder / "evaluation.json", json.dumps(self.to_dict(), indent=2) + "\n")
        write_table(folder / "per_class.csv", self.per_class)
        return self._draw(folder)

    def _draw(self, folder: Path) -> dict[str, str]:
        return try_to_draw(draw_reliability, folder / "reliability.png", self.reliability, self.calibration_error)

    def __str__(self) -> str:
        headline = ", ".join(f"{name} {value:.2%}" for name, value in self.headline.items())
        lines = [
            f"{headline} on {self.images} images of {len(self.class_names)} classes; loss {self.loss:.4f}; "
            f"calibration error {self.calibration_error:.2%}; {self.images_per_second:.1f} images/s"
        ]
        rows = self.worst_first[:_PRINTED_CLASSES]
        widths = {name: max(9, len(name)) + 2 for name in rows[0] if name != "class"}
        head = "".join(f"{name.replace('_', ' '):>{width}}" for name, width in widths.items())
        lines.append(f"{'class (worst first)':28}{head}")
        for row in rows:
            cells = "".join(f"{format_value(row[name]):>{width}}" for name, width in widths.items())
            lines.append(f"{shown_name(row['class'], 27):28}{cells}")
        if len(self.per_class) > _PRINTED_CLASSES:
            lines.append(f"and {len(self.per_class) - _PRINTED_CLASSES} more classes")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation(EvaluationResult):
    """Result on images of one class each; further fields are those of `EvaluationResult`.

    Args:
        top1: Fraction of images whose most probable class is correct.
        top5: Fraction of images whose class is among the five most probable; None for five classes or fewer.
        confusion: Number of images by class (rows) and predicted class (columns), shape (classes, classes).
        worst_mistakes: The wrong predictions of the highest probability, at most eight, highest first: number of the
            image in the order of the images, from 0, its class, the predicted class, its probability, and the file if
            the image has one of its own.
        least_certain: The same for the images whose predicted class has the lowest probability, lowest first.
        predictions: The same for every image, with the probability of its class.
        probabilities: Of each class for each image, shape (images, classes).
    """

    top1: float
    top5: float | None
    confusion: np.ndarray
    worst_mistakes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    least_certain: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    predictions: list[dict[str, Any]] = dataclasses.field(default_factory=list, repr=False)
    probabilities: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0)), repr=False)
    only_in_memory: ClassVar = ("predictions", "probabilities")
    plots: ClassVar = {"confusion.png": "Confusion matrix", "reliability.png": "Reliability diagram"}

    @property
    def headline(self) -> dict[str, float]:
        """Top-1 and top-5 accuracy."""
        return {"top-1": self.top1} | ({} if self.top5 is None else {"top-5": self.top5})

    @property
    def labels(self) -> np.ndarray:
        """Class numbers of the images of `predictions`, shape (images,)."""
        number = {name: i for i, name in enumerate(self.class_names)}
        return np.array([number[row["class"]] for row in self.predictions])

    @property
    def confused(self) -> list[dict[str, Any]]:
        """Pairs of classes that are confused, most often first: class, predicted class, and how many of its images."""
        mistakes = self.confusion * (1 - np.eye(len(self.confusion), dtype=int))
        pairs = np.argsort(-mistakes, axis=None, kind="stable")[: np.count_nonzero(mistakes)]
        return [
            {
                "class": self.class_names[i],
                "predicted": self.class_names[j],
                "images": int(mistakes[i, j]),
                "of": int(self.confusion[i].sum()),
            }
            for i, j in zip(*np.unravel_index(pairs, mistakes.shape), strict=True)
        ]

    def write(self, folder: str | PathLike) -> dict[str, str]:
        """Writes what every evaluation has, and `predictions.csv`, a row for each image."""
        if self.predictions:
            write_table(Path(folder) / "predictions.csv", self.predictions)
        return super().write(folder)

    def _draw(self, folder: Path) -> dict[str, str]:
        missing = try_to_draw(draw_confusion, folder / "confusion.png", self.confusion, self.class_names)
        return missing | super()._draw(folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiLabelEvaluation(EvaluationResult):
    """Result on images of any number of classes each; further fields are those of `EvaluationResult`.

    An image is predicted to be of a class if the probability is at least 1/2. The calibration error is over all pairs
    of image and class. Rows of `per_class` also have the average precision.

    Args:
        mean_average_precision: Mean average precision of the classes that have images.
        subset_accuracy: Fraction of images of which every class is predicted correctly.
    """

    mean_average_precision: float
    subset_accuracy: float
    plots: ClassVar = {
        "average_precision.png": "Average precision of each class",
        "reliability.png": "Reliability diagram",
    }

    @property
    def headline(self) -> dict[str, float]:
        """Mean average precision and subset accuracy."""
        return {"mean average precision": self.mean_average_precision, "all classes correct": self.subset_accuracy}

    def _draw(self, folder: Path) -> dict[str, str]:
        missing = try_to_draw(draw_average_precision, folder / "average_precision.png", self.per_class)
        return missing | super()._draw(folder)


def format_value(value: Any) -> str:
    """Returns a table cell: fractions in percent, counts as they are, "-" for None."""
    if value is None:
        return "-"
    return f"{value:.2%}" if isinstance(value, float) else str(value)
