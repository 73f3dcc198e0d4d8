"""How good a model is on labelled pictures."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import time
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_crossvit.crossvit import CrossViT
from keras_crossvit.data.predictions import imagenet_classes, softmax
from keras_crossvit.files import written_whole
from keras_crossvit.pipeline import Source, evaluation_batches, open_source
from keras_crossvit.restored import create_model_from
from keras_crossvit.runtimes import load_runtime
from keras_crossvit.suffixes import CHECKPOINT_SUFFIXES
from keras_crossvit.training import measures
from keras_crossvit.training.pictures import draw_confusion, draw_reliability
from keras_crossvit.training.run_folder import RunFolder, read_settings

TOP = 5


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model makes of labelled pictures.

    Args:
        class_names: Names of the pictures' classes.
        images: How many pictures there were.
        top1: Share of pictures whose most probable class is right.
        top5: Share of pictures whose class is among the five most probable; None with five classes or fewer.
        loss: Mean cross-entropy, in nats.
        calibration_error: Expected calibration error over 15 bins: by how much confidence and accuracy differ.
        confusion: Pictures by class (rows) and most probable class (columns), shape (classes, classes).
        per_class: A row per class: pictures, precision, recall and F1.
        reliability: Mean confidence, accuracy and pictures of each bin, shape (15, 3).
        images_per_second: Speed, reading included.
    """

    class_names: tuple[str, ...]
    images: int
    top1: float
    top5: float | None
    loss: float
    calibration_error: float
    confusion: np.ndarray
    per_class: list[dict[str, Any]]
    reliability: np.ndarray
    images_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """All figures as JSON values."""
        fields = dataclasses.asdict(self)
        return {**fields, "confusion": self.confusion.tolist(), "reliability": self.reliability.tolist()}

    def write(self, folder: str | PathLike) -> None:
        """Writes `evaluation.json`, `per_class.csv`, `confusion.png` and `reliability.png`, each whole or not at all.

        Args:
            folder: Where to; it is made if need be.
        """
        folder = Path(folder)
        with written_whole(folder / "evaluation.json") as unfinished:
            unfinished.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        with written_whole(folder / "per_class.csv") as unfinished, unfinished.open("w", newline="") as file:
            table = csv.DictWriter(file, fieldnames=list(self.per_class[0]))
            table.writeheader()
            table.writerows(self.per_class)
        draw_confusion(folder / "confusion.png", self.confusion, self.class_names)
        draw_reliability(folder / "reliability.png", self.reliability, self.calibration_error)

    def __str__(self) -> str:
        top5 = "" if self.top5 is None else f", top-5 {self.top5:.2%}"
        lines = [
            f"top-1 {self.top1:.2%}{top5} of {self.images} pictures in {len(self.class_names)} classes; "
            f"loss {self.loss:.4f}; calibration error {self.calibration_error:.2%}; "
            f"{self.images_per_second:.1f} images/s"
        ]
        worst = sorted(self.per_class, key=lambda row: row["f1"])[:20]
        lines.append(f"{'class (worst first)':28}{'pictures':>9}{'precision':>11}{'recall':>9}{'F1':>9}")
        lines += [
            f"{row['class'][:27]:28}{row['pictures']:>9}{row['precision']:>11.2%}{row['recall']:>9.2%}{row['f1']:>9.2%}"
            for row in worst
        ]
        return "\n".join(lines)


def evaluate(
    model: Any,
    data: Any,
    *,
    output: str | PathLike | None = None,
    batch_size: int = 64,
    unreadable_limit: int = 0,
    crop_fraction: float | None = None,
    validation_split: float | None = None,
    seed: int = 0,
    report: Any = None,
) -> Evaluation:
    """Evaluates a model on labelled pictures, by the transform with which the published models are evaluated.

    Args:
        model: A `CrossViT`; the folder of a run, whose best model is taken; a file with a model; or an exported one.
        data: The pictures, as `open_source` takes them: those in `val` where there are such, and else all.
        output: Folder for figures and pictures. Defaults to None: nothing is written.
        batch_size: Pictures at once. Defaults to 64.
        unreadable_limit: Pictures that may be unreadable; they are left out. Defaults to 0.
        crop_fraction: As `preprocess` takes it. Defaults to None: as the published models are evaluated.
        validation_split: Share of each class that training held out with the same `seed`, to evaluate on no other.
            Defaults to None.
        seed: Of that split. Defaults to 0.
        report: Function that is given lines about the pictures, or None, the default.

    Returns:
        The figures; printed, they are a table.

    Raises:
        ValueError: pictures and model have no classes in common, or something cannot be read.
        FileNotFoundError: there is no such model or folder.
    """
    model = open_model(model) if isinstance(model, (str, PathLike)) else model
    source = open_source(
        data, validation_split=validation_split, seed=seed, unreadable_limit=unreadable_limit, report=report
    )
    split = "training" if source.validation is None else "validation"
    evaluation = evaluate_split(model, source, split=split, batch_size=batch_size, crop_fraction=crop_fraction)
    if output is not None:
        evaluation.write(output)
    return evaluation


def open_model(path: str | PathLike) -> Any:
    """The best model of a run's folder, the model in a file, or an exported one in its runtime.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read.
    """
    path = Path(path)
    if (path / "config.json").is_file() and "recipe" in read_settings(path):
        path = RunFolder(path).best
        if not path.is_file():
            raise FileNotFoundError(f"'{path}' is not there yet; train for one epoch at least.")
    return create_model_from(path) if path.name.endswith(CHECKPOINT_SUFFIXES) else load_runtime(path)


def evaluate_split(
    model: Any,
    source: Source,
    *,
    split: str = "validation",
    batch_size: int = 64,
    crop_fraction: float | None = None,
) -> Evaluation:
    """Evaluates a model on one split of a source; arguments as of `evaluate`."""
    columns = class_positions(model, source.class_names)
    config = dataclasses.replace(model.config, num_classes=len(source.class_names))
    batches = evaluation_batches(source, config, batch_size, split=split, crop_fraction=crop_fraction)
    compute = logits_function(model)
    logits, labels = [], []
    begun = time.perf_counter()
    for images, target in batches:
        logits.append(np.asarray(compute(*images), "float32"))
        labels.append(np.asarray(target).argmax(axis=1))
    seconds = time.perf_counter() - begun
    return _evaluation(np.concatenate(logits), columns[np.concatenate(labels)], columns, source.class_names, seconds)


def class_positions(model: Any, class_names: Sequence[str]) -> np.ndarray:
    """Position in a model's logits of each of the pictures' classes.

    Classes go by name. A model without names has those of ImageNet if all the pictures' classes are WordNet
    identifiers, and else the pictures' own, in order.

    Raises:
        ValueError: a class is unknown to the model.
    """
    known = model.classes
    identifiers = [identifier for identifier, _ in imagenet_classes()]
    if known is None and model.config.num_classes == len(identifiers) and set(class_names) <= set(identifiers):
        known = identifiers
    if known is None:
        if model.config.num_classes != len(class_names):
            raise ValueError(
                f"the model has {model.config.num_classes} classes without names where the pictures have "
                f"{len(class_names)}; give pictures of the same classes."
            )
        return np.arange(len(class_names))
    position = {name: i for i, name in enumerate(known)}
    unknown = [name for name in class_names if name not in position]
    if unknown:
        raise ValueError(
            f"class '{unknown[0]}' of the pictures is none of the model's {len(known)}, such as '{known[0]}'; give the "
            "folders the names of the model's classes."
        )
    return np.array([position[name] for name in class_names])


def logits_function(model: Any) -> Any:
    """Function from both images to logits as an array, compiled once where TensorFlow or JAX runs it."""
    if not isinstance(model, CrossViT):
        return model.logits
    if keras.backend.backend() == "jax":
        return lambda *images: model.predict_on_batch([np.asarray(image) for image in images])  # compiled as a whole
    if keras.backend.backend() != "tensorflow":
        return lambda *images: keras.ops.convert_to_numpy(model(list(images), training=False))
    import tensorflow as tf

    compute = tf.function(functools.partial(model, training=False), reduce_retracing=True, jit_compile=False)
    return lambda *images: compute(list(images)).numpy()


def _evaluation(
    logits: np.ndarray, labels: np.ndarray, columns: np.ndarray, class_names: Sequence[str], seconds: float
) -> Evaluation:
    probabilities = softmax(logits)
    predicted = probabilities.argmax(axis=1)
    of_pictures = np.full(logits.shape[1], -1)  # a model may know more classes than the pictures have
    of_pictures[columns] = np.arange(len(columns))
    confusion = measures.confusion_matrix(of_pictures[labels], of_pictures[predicted], len(columns))
    bins = measures.reliability(probabilities.max(axis=1), predicted == labels)
    return Evaluation(
        class_names=tuple(class_names),
        images=len(labels),
        top1=float(np.mean(predicted == labels)),
        top5=measures.top_k_accuracy(probabilities, labels, TOP) if logits.shape[1] > TOP else None,
        loss=float(-np.mean(np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-30)))),
        calibration_error=measures.expected_calibration_error(bins),
        confusion=confusion,
        per_class=measures.per_class(confusion, of_pictures[labels], class_names),
        reliability=bins,
        images_per_second=len(labels) / seconds,
    )
