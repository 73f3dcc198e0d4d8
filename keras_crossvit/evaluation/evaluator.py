"""Evaluates a model on labelled images."""

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
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.model_paths import (
    BEST_MODEL,
    CHECKPOINT_SUFFIXES,
    RUN_SETTINGS,
    read_run_settings,
    resolve_model_path,
)
from keras_crossvit.evaluation import metrics
from keras_crossvit.evaluation.results import Evaluation, MultiLabelEvaluation
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.loading import load_model
from keras_crossvit.pipeline import ImageDataset, evaluation_batches, open_dataset
from keras_crossvit.pipeline.dataset import origin_of
from keras_crossvit.pipeline.folders import find_validation_split
from keras_crossvit.preprocessing.predictions import imagenet_classes, sigmoid, softmax
from keras_crossvit.preprocessing.transforms import resolve_crop_fraction
from keras_crossvit.runtimes import Runtime, load_runtime
from keras_crossvit.runtimes.keras_model import KerasRuntime


def evaluate(
    model: CrossViT | Runtime | str | PathLike,
    data: Any,
    *,
    output: str | PathLike | None = None,
    batch_size: int = 64,
    max_unreadable: int = 0,
    crop_fraction: float | None = None,
    validation_split: float | None = None,
    seed: int = 0,
) -> Evaluation | MultiLabelEvaluation:
    """Evaluates a model on labelled images, with the evaluation transform of the published models.

    Args:
        model: A `CrossViT`, a loaded runtime, a run folder (its best model), a checkpoint with a model, or an exported
            model.
        data: Labelled images, as `open_dataset` takes them. If there is a validation split, only that is evaluated.
        output: Folder for the results and plots. Defaults to None: nothing is written.
        batch_size: Images per batch. Defaults to 64.
        max_unreadable: How many unreadable images to tolerate; they are left out. Defaults to 0.
        crop_fraction: As in `preprocess`. Defaults to None: as the published models are evaluated.
        validation_split: The fraction that training used for validation with the same `seed`; only those images are
            evaluated. Defaults to None.
        seed: Seed of that split. Defaults to 0.

    Returns:
        The result; printed, it is a table. A `MultiLabelEvaluation` if images may be of several classes or the model
        has one class.

    Raises:
        InvalidValueError: images and model have no classes in common, a file cannot be read, the logits are not finite,
            or only Keras knows the model's activation.
        MissingFileError: the model or folder does not exist.
        MissingLibraryError: scikit-learn is not installed.
    """
    metrics.sklearn_metrics()
    hide_gpus_from_tensorflow()
    settings = _run_settings(model)
    loaded = _open_model(model) if isinstance(model, (str, PathLike)) else model
    crop_fraction = resolve_crop_fraction(crop_fraction, *loaded.config.image_sizes[0])
    dataset = open_dataset(
        data, validation_split=validation_split, seed=seed, max_unreadable=max_unreadable, validation_only=True
    )
    split = "training" if dataset.validation is None else "validation"
    if split == "training" and _was_trained_on(settings, data):
        logger.warning(
            "The model was trained on these images, so the results say little about new ones. Pass the "
            "validation_split and seed of the training (--validation-split) to evaluate on its validation set."
        )
    evaluation = evaluate_split(loaded, dataset, split=split, batch_size=batch_size, crop_fraction=crop_fraction)
    if output is not None:
        for name, reason in evaluation.write(output).items():
            logger.warning("'%s' could not be drawn (%s).", name, reason)
    return evaluation


def evaluate_split(
    model: CrossViT | Runtime,
    dataset: ImageDataset,
    *,
    split: str = "validation",
    batch_size: int = 64,
    crop_fraction: float | None = None,
) -> Evaluation | MultiLabelEvaluation:
    """Evaluates a model on one split of a dataset; arguments as in `evaluate`."""
    runtime = KerasRuntime(model) if isinstance(model, CrossViT) else model
    one_class = runtime.config.num_classes == 1 and not dataset.is_multi_label
    columns = (_one_class_position if one_class else _class_positions)(runtime, dataset.class_names)
    config = dataclasses.replace(runtime.config, num_classes=len(dataset.class_names))
    batches = evaluation_batches(dataset, config, batch_size, split=split, crop_fraction=crop_fraction)
    logits_of_batches, target_of_batches = [], []
    start = time.perf_counter()
    for images, target in batches:
        logits_of_batches.append(runtime.logits(*images))
        target_of_batches.append(np.asarray(target))
    seconds = time.perf_counter() - start
    logits, target = np.concatenate(logits_of_batches), np.concatenate(target_of_batches)
    common = {
        "class_names": tuple(dataset.class_names),
        "images": len(target),
        "images_per_second": len(target) / seconds,
    }
    if dataset.is_multi_label:
        return _evaluate_multi_label(logits[:, columns], target, common)
    if one_class:
        common["class_names"] = (dataset.class_names[columns[0]],)
        return _evaluate_multi_label(logits, target[:, columns], common)
    independent = runtime.metadata.probability_function == "sigmoid"
    return _evaluate_single_label(logits, columns[target.argmax(axis=1)], columns, common, independent=independent)


def _open_model(path: str | PathLike) -> CrossViT | Runtime:
    path = resolve_model_path(path)
    if _run_settings(path):
        raise MissingFileError(f"'{path / BEST_MODEL}' does not exist yet; train for at least one epoch.")
    if path.name.endswith(CHECKPOINT_SUFFIXES):
        return load_model(path)
    return load_runtime(path, quiet=True)


def _run_settings(model: Any) -> dict[str, Any]:
    """Settings of the run in a folder; empty for everything else."""
    if not isinstance(model, (str, PathLike)) or not (Path(model) / RUN_SETTINGS).is_file():
        return {}
    settings = read_run_settings(model)
    return settings if "recipe" in settings else {}


def _was_trained_on(settings: Mapping[str, Any], data: Any) -> bool:
    is_path = isinstance(data, (str, PathLike))
    return is_path and settings.get("data") == origin_of(data) and not find_validation_split(Path(data))


def _class_positions(model: Runtime, class_names: Sequence[str]) -> np.ndarray:
    """Positions of the images' classes in the logits, by name.

    Models without class names have ImageNet's if the images' classes are WordNet identifiers, or else the images'.
    """
    known: Sequence[str] | None = model.class_names
    identifiers = [identifier for identifier, _ in imagenet_classes()]
    if known is None and model.config.num_classes == len(identifiers) and set(class_names) <= set(identifiers):
        known = identifiers
    if known is None:
        if model.config.num_classes != len(class_names):
            raise InvalidValueError(
                f"the model has {model.config.num_classes} classes without names, but the images have "
                f"{len(class_names)} classes; use images of the same classes."
            )
        return np.arange(len(class_names))
    position = {name: i for i, name in enumerate(known)}
    unknown = [name for name in class_names if name not in position]
    if unknown:
        raise InvalidValueError(
            f"class '{unknown[0]}' of the images is not one of the model's {len(known)} classes, such as '{known[0]}'; "
            "rename the folders to the model's classes."
        )
    return np.array([position[name] for name in class_names])


def _one_class_position(model: Runtime, class_names: Sequence[str]) -> np.ndarray:
    """Position of a one-class model's class among the images' classes, by name.

    Without class names it is the second of two classes, which has label 1.
    """
    if model.class_names is None:
        if len(class_names) > 2:
            raise InvalidValueError(
                f"the model has one class without a name, but the images have {len(class_names)} classes; build it "
                "with class_names=[name]."
            )
        return np.array([len(class_names) - 1])
    (known,) = model.class_names
    if known not in class_names:
        raise InvalidValueError(
            f"class '{known}' of the model is not one of the images' {len(class_names)} classes, such as "
            f"'{class_names[0]}'; rename the folder of its images."
        )
    return np.array([list(class_names).index(known)])


def _evaluate_single_label(
    logits: np.ndarray, labels: np.ndarray, columns: np.ndarray, common: dict[str, Any], *, independent: bool
) -> Evaluation:
    num_classes = logits.shape[1]
    if independent:
        probabilities = sigmoid(logits)
        loss = metrics.binary_cross_entropy(logits, np.arange(num_classes) == labels[:, None])
    else:
        probabilities = softmax(logits)
        loss = metrics.cross_entropy(probabilities, labels)
    predicted = probabilities.argmax(axis=1)
    image_class = np.full(num_classes, -1)  # the model may have classes that the images do not have
    image_class[columns] = np.arange(len(columns))
    bins = metrics.reliability(probabilities.max(axis=1), predicted == labels)
    return Evaluation(
        **common,
        top1=float(np.mean(predicted == labels)),
        top5=metrics.top_k_accuracy(probabilities, labels) if num_classes > metrics.TOP else None,
        loss=loss,
        calibration_error=metrics.expected_calibration_error(bins),
        confusion=metrics.confusion_matrix(image_class[labels], image_class[predicted], len(columns)),
        per_class=metrics.per_class_metrics(image_class[labels], image_class[predicted], common["class_names"]),
        reliability=bins,
    )


def _evaluate_multi_label(logits: np.ndarray, target: np.ndarray, common: dict[str, Any]) -> MultiLabelEvaluation:
    probabilities, positive = sigmoid(logits), target > 0.5
    rows = metrics.multi_label_metrics(probabilities, positive, common["class_names"])
    known = [row["average_precision"] for row in rows if row["average_precision"] is not None]
    bins = metrics.reliability(probabilities.ravel(), positive.ravel())
    return MultiLabelEvaluation(
        **common,
        mean_average_precision=float(np.mean(known)) if known else 0.0,
        subset_accuracy=float(np.mean(((probabilities >= 0.5) == positive).all(axis=1))),
        loss=metrics.binary_cross_entropy(logits, positive),
        calibration_error=metrics.expected_calibration_error(bins),
        per_class=rows,
        reliability=bins,
    )
