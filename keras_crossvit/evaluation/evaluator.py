"""How good a model is on labelled pictures."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit._internal.devices import hide_gpus_from_tensorflow
from keras_crossvit._internal.errors import InvalidValueError, MissingFileError
from keras_crossvit._internal.model_paths import BEST_MODEL, CHECKPOINT_SUFFIXES, read_run_settings, resolve_model_path
from keras_crossvit.evaluation import metrics
from keras_crossvit.evaluation.results import Evaluation, MultiLabelEvaluation
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.loading import load_model
from keras_crossvit.pipeline import ImageDataset, evaluation_batches, open_dataset
from keras_crossvit.pipeline.dataset import origin_of
from keras_crossvit.pipeline.folders import find_validation_split
from keras_crossvit.preprocessing.predictions import imagenet_classes, sigmoid, softmax
from keras_crossvit.preprocessing.transforms import resolve_crop_fraction
from keras_crossvit.runtimes import load_runtime
from keras_crossvit.runtimes.keras_model import KerasRuntime


def evaluate(
    model: Any,
    data: Any,
    *,
    output: str | PathLike | None = None,
    batch_size: int = 64,
    max_unreadable: int = 0,
    crop_fraction: float | None = None,
    validation_split: float | None = None,
    seed: int = 0,
    report: Any = None,
) -> Evaluation | MultiLabelEvaluation:
    """Evaluates a model on labelled pictures, by the transform with which the published models are evaluated.

    Args:
        model: A `CrossViT`; the folder of a run, whose best model is taken; a file with a model; or an exported one.
        data: The pictures, as `open_dataset` takes them: those in `val` where there are such, and else all.
        output: Folder for figures and pictures. Defaults to None: nothing is written.
        batch_size: Pictures at once. Defaults to 64.
        max_unreadable: Pictures that may be unreadable; they are left out. Defaults to 0.
        crop_fraction: As `preprocess` takes it. Defaults to None: as the published models are evaluated.
        validation_split: Share of each class that training held out with the same `seed`, to evaluate on no other.
            Defaults to None.
        seed: Of that split. Defaults to 0.
        report: Function that is given lines about the pictures, or None, the default.

    Returns:
        The figures; printed, they are a table. Of pictures that may be of several classes, and of a model of one class,
        a `MultiLabelEvaluation`.

    Raises:
        ValueError: pictures and model have no classes in common, something cannot be read, the logits are not finite,
            or the model has an activation whose probabilities are known to Keras alone.
        FileNotFoundError: there is no such model or folder.
    """
    hide_gpus_from_tensorflow()
    settings = _settings_of_run(model)
    model = open_model(model) if isinstance(model, (str, PathLike)) else model
    crop_fraction = resolve_crop_fraction(crop_fraction, *model.config.image_sizes[0])
    source = open_dataset(
        data,
        validation_split=validation_split,
        seed=seed,
        max_unreadable=max_unreadable,
        validation_only=True,
        report=report,
    )
    split = "training" if source.validation is None else "validation"
    if report and split == "training" and _was_trained_on(settings, data):
        report(
            "these are the pictures that the model has learnt from, and figures of them say little; give the "
            "validation_split and seed of the training (--validation-split) to evaluate on what it held out"
        )
    evaluation = evaluate_split(model, source, split=split, batch_size=batch_size, crop_fraction=crop_fraction)
    if output is not None:
        for name, why in evaluation.write(output).items():
            if report:
                report(f"'{name}' could not be drawn ({why})")
    return evaluation


def open_model(path: str | PathLike) -> Any:
    """The best model of a run's folder, the model in a file, or an exported one in its runtime.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read.
    """
    path = resolve_model_path(path)
    if _settings_of_run(path):
        raise MissingFileError(f"'{path / BEST_MODEL}' is not there yet; train for one epoch at least.")
    if path.name.endswith(CHECKPOINT_SUFFIXES):
        return load_model(path)
    return load_runtime(path, quiet=True)


def _settings_of_run(model: Any) -> dict[str, Any]:
    """The settings of the run in a folder; none of anything else."""
    if not isinstance(model, (str, PathLike)) or not (Path(model) / "config.json").is_file():
        return {}
    settings = read_run_settings(model)
    return settings if "recipe" in settings else {}


def _was_trained_on(settings: Mapping[str, Any], data: Any) -> bool:
    """Whether pictures, all of which are evaluated on, are those that a run was given to learn from."""
    is_path = isinstance(data, (str, PathLike))
    return is_path and settings.get("data") == origin_of(data) and not find_validation_split(Path(data))


def evaluate_split(
    model: Any,
    source: ImageDataset,
    *,
    split: str = "validation",
    batch_size: int = 64,
    crop_fraction: float | None = None,
) -> Evaluation | MultiLabelEvaluation:
    """Evaluates a model on one split of a source; arguments as of `evaluate`."""
    runtime = KerasRuntime(model) if isinstance(model, CrossViT) else model
    is_one_class = runtime.config.num_classes == 1 and not source.has_vectors
    columns = (one_class_position if is_one_class else class_positions)(runtime, source.class_names)
    config = dataclasses.replace(runtime.config, num_classes=len(source.class_names))
    batches = evaluation_batches(source, config, batch_size, split=split, crop_fraction=crop_fraction)
    logits, targets = [], []
    begun = time.perf_counter()
    for images, target in batches:
        logits.append(runtime.logits(*images))
        targets.append(np.asarray(target))
    facts = {
        "class_names": tuple(source.class_names),
        "images": len(source.training if split == "training" else source.validation),
        "images_per_second": sum(map(len, targets)) / (time.perf_counter() - begun),
    }
    table, target = np.concatenate(logits), np.concatenate(targets)
    if source.has_vectors:
        return _evaluate_multi_label(table[:, columns], target, facts)
    if is_one_class:
        facts["class_names"] = (source.class_names[columns[0]],)
        return _evaluate_multi_label(table, target[:, columns], facts)
    by_itself = runtime.metadata.probability_function == "sigmoid"
    return _evaluate_single_label(table, columns[target.argmax(axis=1)], columns, facts, by_itself=by_itself)


def class_positions(model: Any, class_names: Sequence[str]) -> np.ndarray:
    """Position in a model's logits of each of the pictures' classes.

    Classes go by name. A model without names has those of ImageNet if all the pictures' classes are WordNet
    identifiers, and else the pictures' own, in order.

    Raises:
        ValueError: a class is unknown to the model.
    """
    known = model.class_names
    identifiers = [identifier for identifier, _ in imagenet_classes()]
    if known is None and model.config.num_classes == len(identifiers) and set(class_names) <= set(identifiers):
        known = identifiers
    if known is None:
        if model.config.num_classes != len(class_names):
            raise InvalidValueError(
                f"the model has {model.config.num_classes} classes without names where the pictures have "
                f"{len(class_names)}; give pictures of the same classes."
            )
        return np.arange(len(class_names))
    position = {name: i for i, name in enumerate(known)}
    unknown = [name for name in class_names if name not in position]
    if unknown:
        raise InvalidValueError(
            f"class '{unknown[0]}' of the pictures is none of the model's {len(known)}, such as '{known[0]}'; give the "
            "folders the names of the model's classes."
        )
    return np.array([position[name] for name in class_names])


def one_class_position(model: Any, class_names: Sequence[str]) -> np.ndarray:
    """Position among the pictures' classes of the only class of a model; all other pictures are not of it.

    It goes by name. For a model without names it is the second of two classes, which has the label 1.

    Raises:
        ValueError: the pictures have no such class, or it cannot be told which it is.
    """
    if model.class_names is None:
        if len(class_names) > 2:
            raise InvalidValueError(
                f"the model has one class without a name where the pictures have {len(class_names)}; build it with the "
                "name of its class, classes=[name]."
            )
        return np.array([len(class_names) - 1])
    (known,) = model.class_names
    if known not in class_names:
        raise InvalidValueError(
            f"class '{known}' of the model is none of the pictures' {len(class_names)}, such as '{class_names[0]}'; "
            "give the folder of its pictures this name."
        )
    return np.array([list(class_names).index(known)])


def _evaluate_single_label(
    logits: np.ndarray, labels: np.ndarray, columns: np.ndarray, facts: dict[str, Any], *, by_itself: bool
) -> Evaluation:
    if by_itself:
        probabilities = sigmoid(logits)
        loss = metrics.binary_cross_entropy(logits, np.arange(logits.shape[1]) == labels[:, None])
    else:
        probabilities = softmax(logits)
        loss = metrics.cross_entropy(probabilities, labels)
    predicted = probabilities.argmax(axis=1)
    of_images = np.full(logits.shape[1], -1)  # a model may know more classes than the pictures have
    of_images[columns] = np.arange(len(columns))
    confusion = metrics.confusion_matrix(of_images[labels], of_images[predicted], len(columns))
    bins = metrics.reliability(probabilities.max(axis=1), predicted == labels)
    return Evaluation(
        **facts,
        top1=float(np.mean(predicted == labels)),
        top5=metrics.top_k_accuracy(probabilities, labels, metrics.TOP) if logits.shape[1] > metrics.TOP else None,
        loss=loss,
        calibration_error=metrics.expected_calibration_error(bins),
        confusion=confusion,
        per_class=metrics.per_class(confusion, of_images[labels], facts["class_names"]),
        reliability=bins,
    )


def _evaluate_multi_label(logits: np.ndarray, target: np.ndarray, facts: dict[str, Any]) -> MultiLabelEvaluation:
    probabilities, is_of = sigmoid(logits), target > 0.5
    rows = metrics.multi_label_per_class(probabilities, is_of, facts["class_names"])
    known = [row["average_precision"] for row in rows if row["average_precision"] is not None]
    bins = metrics.reliability(probabilities.ravel(), is_of.ravel())
    return MultiLabelEvaluation(
        **facts,
        mean_average_precision=float(np.mean(known)) if known else 0.0,
        exact=float(np.mean(((probabilities >= 0.5) == is_of).all(axis=1))),
        loss=metrics.binary_cross_entropy(logits, is_of),
        calibration_error=metrics.expected_calibration_error(bins),
        per_class=rows,
        reliability=bins,
    )
