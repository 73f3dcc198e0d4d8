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
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.model_paths import (
    BEST_MODEL,
    CHECKPOINT_SUFFIXES,
    RUN_SETTINGS,
    read_run_settings,
    resolve_model_path,
)
from keras_crossvit._internal.stored_json import require_form
from keras_crossvit.evaluation import metrics
from keras_crossvit.evaluation.results import Evaluation, MultiLabelEvaluation
from keras_crossvit.models.config import config_of
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.loading import load_model
from keras_crossvit.pipeline import ImageDataset, evaluation_batches, open_dataset
from keras_crossvit.pipeline.dataset import DATASETS, TFDS_PREFIX, available_splits, origin_of
from keras_crossvit.pipeline.splits import FileSplit, Split
from keras_crossvit.pipeline.tensorflow_datasets import own_class_names
from keras_crossvit.preprocessing.predictions import imagenet_classes, resolve_class_names, sigmoid, softmax
from keras_crossvit.preprocessing.transforms import resolve_crop_fraction
from keras_crossvit.runtimes import Runtime, load_runtime
from keras_crossvit.runtimes.keras_model import KerasRuntime
from keras_crossvit.runtimes.metadata import Metadata

_SETTINGS = {"data": str, "images": {"sha256": str}, "validation_split": float, "seed": int}  # of a run
_SHOWN_IMAGES = 8  # of the worst mistakes and of the least certain predictions
_ALL = "all"  # images, whatever their split


@known_keywords_only
def evaluate(
    model: CrossViT | Runtime | str | PathLike,
    data: Any = None,
    *,
    split: str | None = None,
    output: str | PathLike | None = None,
    batch_size: int = 64,
    max_unreadable: int | None = None,
    follow_links: bool | None = None,
    crop_fraction: float | None = None,
    validation_split: float | None = None,
    seed: int | None = None,
    allow_any_operation: bool = False,
) -> Evaluation | MultiLabelEvaluation:
    """Evaluates a model on labelled images, with the evaluation transform of the published models.

    `kc.evaluate("runs/pets")` evaluates the best model of a run on the run's own validation images.

    Args:
        model: A `CrossViT`, a loaded runtime, a run folder (its best model), a checkpoint with a model, or an exported
            model.
        data: Labelled images, as `open_dataset` takes them. The labels of a `tf.data.Dataset` without
            class names are numbers of the model's classes; for a model of one class, 0 or 1. Defaults to None: the data
            of the run folder.
        split: "validation", "test", or "all" for all images. Defaults to None: the validation split if there is one,
            or else a test split; all images if `data` has neither.
        output: Folder for the results and plots. Defaults to None: nothing is written.
        batch_size: Images per batch. Defaults to 64.
        max_unreadable: How many unreadable images to tolerate; they are left out. Defaults to None: as in the run, or
            0.
        follow_links: Whether to read images outside of the folder that symbolic links in it lead to. Defaults to None:
            as in the run, or False.
        crop_fraction: As in `preprocess`. Defaults to None: as the published models are evaluated.
        validation_split: The fraction that training used for validation with the same `seed`; only those images are
            evaluated. Defaults to None: that of the run if `data` are its images, or else none.
        seed: Seed of that split. Defaults to None: that of the run, or 0.
        allow_any_operation: As in `load_runtime`. Defaults to False.

    Returns:
        The result; printed, it is a table. A `MultiLabelEvaluation` if images may be of several classes or the model
        has one class.

    Raises:
        InvalidTypeError: the model is none of these, such as a wrapper.
        InvalidValueError: images and model have no classes in common, there is no such split, a file cannot be read,
            the logits are not finite, or only Keras knows the model's activation.
        MissingFileError: the model or folder does not exist.
        MissingLibraryError: scikit-learn is not installed.
    """
    loaded = _open_model(model, allow_any_operation)
    crop_fraction = resolve_crop_fraction(crop_fraction, *config_of(loaded).image_sizes[0])
    images = _Images.of(model, data, validation_split, seed, max_unreadable, follow_links)
    chosen = split or images.splits(has_all=data is not None)[0]
    return _evaluate(loaded, images, [chosen], output, batch_size, crop_fraction)[chosen]


@known_keywords_only
def evaluate_splits(
    model: CrossViT | Runtime | str | PathLike,
    data: Any = None,
    *,
    split: str | None = None,
    output: str | PathLike | None = None,
    batch_size: int = 64,
    max_unreadable: int | None = None,
    follow_links: bool | None = None,
    crop_fraction: float | None = None,
    validation_split: float | None = None,
    seed: int | None = None,
    allow_any_operation: bool = False,
) -> dict[str, Evaluation | MultiLabelEvaluation]:
    """Evaluates a run on its validation and its test images; arguments and errors as in `evaluate`.

    Returns:
        The results by split. With `data` or `split` there is one. Several are written to subfolders of `output`.
    """
    loaded = _open_model(model, allow_any_operation)
    crop_fraction = resolve_crop_fraction(crop_fraction, *config_of(loaded).image_sizes[0])
    images = _Images.of(model, data, validation_split, seed, max_unreadable, follow_links)
    found = images.splits(has_all=data is not None)
    chosen = [split] if split else found if data is None else found[:1]
    return _evaluate(loaded, images, chosen, output, batch_size, crop_fraction)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Images:
    """Labelled images of the user, or of a run with the settings of its training."""

    data: Any
    validation_split: float  # 0 for none
    seed: int
    max_unreadable: int
    follow_links: bool
    settings: dict[str, Any]  # of the run that was trained on these images, or empty

    @classmethod
    def of(
        cls,
        model: Any,
        data: Any,
        validation_split: float | None,
        seed: int | None,
        max_unreadable: int | None,
        follow_links: bool | None,
    ) -> _Images:
        settings = _run_settings(model)
        if data is None:
            data = _data_of_run(model, settings)
        elif not isinstance(data, (str, PathLike)) or settings.get("data") != origin_of(data):
            settings = {}
        stored = settings.get("reading")
        reading = stored if isinstance(stored, dict) else {}
        if validation_split is None:
            validation_split = settings.get("validation_split")
        return cls(
            data=data,
            validation_split=validation_split or 0.0,
            seed=settings.get("seed", 0) if seed is None else seed,
            max_unreadable=reading.get("max_unreadable", 0) if max_unreadable is None else max_unreadable,
            follow_links=reading.get("follow_links", False) if follow_links is None else follow_links,
            settings=settings,
        )

    def splits(self, *, has_all: bool) -> list[str]:
        """Returns which of "validation" and "test" there are, in this order; "all" if neither and `has_all`."""
        available = available_splits(self.data, follow_links=self.follow_links)
        if self.validation_split:
            available.append("validation")
        found: list[str] = [split for split in ("validation", "test") if split in available]
        if not found and not has_all:
            raise InvalidValueError(
                f"The run on '{self.data}' has neither validation nor test images; pass labelled images to evaluate."
            )
        return found or [_ALL]

    def open(self, split: str, class_names: Sequence[str] | None) -> tuple[ImageDataset, str]:
        """Returns a dataset, and which of its splits to evaluate."""
        keywords: dict[str, Any] = {
            "class_names": class_names,
            "seed": self.seed,
            "max_unreadable": self.max_unreadable,
            "follow_links": self.follow_links,
        }
        if split == _ALL:
            if self.settings:
                logger.warning("The model was trained on these images, so the results say little about new ones.")
            return open_dataset(self.data, validation_split=0, **keywords), "training"
        if split == "validation" and self.validation_split:
            dataset = open_dataset(self.data, validation_split=self.validation_split, **keywords)
            has_changed = dataset.fingerprint() != self.settings.get("images", {}).get("sha256")
            if self.settings and has_changed and self.is_split_of_run:
                logger.warning(
                    "The images in '%s' are not those of the training, so the model may have been trained on some of "
                    "the validation images.",
                    self.data,
                )
            return dataset, "validation"
        return open_dataset(self.data, split=split, validation_split=0, **keywords), "training"

    @property
    def is_split_of_run(self) -> bool:
        return (self.validation_split, self.seed) == tuple(map(self.settings.get, ("validation_split", "seed")))


def _evaluate(
    model: CrossViT | Runtime,
    images: _Images,
    splits: Sequence[str],
    output: str | PathLike | None,
    batch_size: int,
    crop_fraction: float,
) -> dict[str, Evaluation | MultiLabelEvaluation]:
    is_path = isinstance(images.data, (str, PathLike))
    class_names = None if is_path else own_class_names(images.data) or _names_of_labels(model)
    results = {}
    for split in splits:
        dataset, evaluated = images.open(split, class_names)
        results[split] = evaluate_split(
            model, dataset, split=evaluated, batch_size=batch_size, crop_fraction=crop_fraction
        )
        if output is not None:
            folder = Path(output) / split if len(splits) > 1 else output
            for name, reason in results[split].write(folder).items():
                logger.warning("'%s' could not be drawn (%s).", name, reason)
    return results


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
    if isinstance(runtime, KerasRuntime):
        runtime.run_eagerly = len(getattr(dataset, split) or ()) <= 2 * batch_size
    class_columns(runtime.metadata, dataset)  # before the images are read
    config = dataclasses.replace(runtime.config, num_classes=len(dataset.class_names))
    batches = evaluation_batches(
        dataset, config, batch_size, split=split, crop_fraction=crop_fraction, input_kind=runtime.input_kind
    )
    logits, targets = [], []
    start = time.perf_counter()
    for images, target in batches:
        logits.append(runtime.logits(*images))
        targets.append(np.asarray(target) if dataset.is_multi_label else np.argmax(target, axis=1))
    seconds = time.perf_counter() - start
    computed = np.concatenate(logits), np.concatenate(targets)
    return evaluate_logits(runtime.metadata, dataset, getattr(dataset, split), *computed, seconds)


def evaluate_logits(
    model: Metadata, dataset: ImageDataset, split: Split, logits: np.ndarray, labels: np.ndarray, seconds: float
) -> Evaluation | MultiLabelEvaluation:
    """Evaluates what a model has computed.

    Args:
        model: The description of the model.
        dataset: The images.
        split: The split of the dataset that they are in.
        logits: The model's logits of it, shape (images, num_classes).
        labels: Class numbers of these images, shape (images,); of multi-label images 0 and 1 for each class.
        seconds: Time that it took.
    """
    columns = class_columns(model, dataset)
    common: dict[str, Any] = {
        "class_names": tuple(dataset.class_names),
        "images": len(labels),
        "images_per_second": len(labels) / seconds,
    }
    if dataset.is_multi_label:
        return _evaluate_multi_label(logits[:, columns], labels, common)
    if model.config.num_classes == 1:
        common["class_names"] = (dataset.class_names[columns[0]],)
        return _evaluate_multi_label(logits, labels[:, None] == columns, common)
    independent = model.probability_function == "sigmoid"
    logits = logits / model.calibration.temperature
    files = split.files if isinstance(split, FileSplit) else ()
    return _evaluate_single_label(logits, columns[labels], columns, common, files, independent=independent)


def class_columns(model: Metadata, dataset: ImageDataset) -> np.ndarray:
    """Returns the position of each of the images' classes in the logits; of a one-class model, that of its class.

    Raises:
        InvalidValueError: images and model have no classes in common.
    """
    one_class = model.config.num_classes == 1 and not dataset.is_multi_label
    return (_one_class_position if one_class else _class_positions)(model, dataset.class_names)


def _open_model(model: CrossViT | Runtime | str | PathLike, allow_any_operation: bool) -> CrossViT | Runtime:
    metrics.sklearn_metrics()
    hide_gpus_from_tensorflow()
    if not isinstance(model, (str, PathLike)):
        return model
    path = resolve_model_path(model)
    if _run_settings(path):
        raise MissingFileError(f"'{path / BEST_MODEL}' does not exist yet; train for at least one epoch.")
    if path.name.endswith(CHECKPOINT_SUFFIXES):
        return load_model(path)
    return load_runtime(path, quiet=True, allow_any_operation=allow_any_operation)


def _run_settings(model: Any) -> dict[str, Any]:
    """Settings of the run in a folder; empty for everything else."""
    if not isinstance(model, (str, PathLike)) or not (Path(model) / RUN_SETTINGS).is_file():
        return {}
    settings = read_run_settings(model)
    if "recipe" not in settings:
        return {}
    try:
        require_form(settings, {name: form for name, form in _SETTINGS.items() if name in {*settings, "data"}})
    except InvalidValueError as error:
        raise InvalidValueError(f"'{Path(model) / RUN_SETTINGS}' is damaged ({error}); restore it.") from error
    return settings


def _data_of_run(model: Any, settings: Mapping[str, Any]) -> str:
    """Returns the folder or name of the data that a run was trained on."""
    if not settings:
        raise InvalidValueError("There are no images to evaluate on; pass labelled images, or the folder of a run.")
    data = str(settings["data"])
    if data == DATASETS:
        raise InvalidValueError(f"The run in '{model}' was trained on tf.data datasets; pass the images to evaluate.")
    if not data.startswith(TFDS_PREFIX) and not Path(data).is_dir():
        raise MissingFileError(
            f"'{data}', the images of the run in '{model}', does not exist; pass where they are now."
        )
    return data


def _names_of_labels(model: CrossViT | Runtime) -> list[str]:
    """Returns a class name for each label of a `tf.data.Dataset`."""
    names = resolve_class_names(model.config.num_classes, model.class_names)
    return names if len(names) > 1 else [f"not {names[0]}", *names]


def _class_positions(model: Metadata, class_names: Sequence[str]) -> np.ndarray:
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


def _one_class_position(model: Metadata, class_names: Sequence[str]) -> np.ndarray:
    """Position of a one-class model's class among the images' classes, by name, shape (1,).

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
    logits: np.ndarray,
    labels: np.ndarray,
    columns: np.ndarray,
    common: dict[str, Any],
    files: Sequence[str] = (),
    *,
    independent: bool,
) -> Evaluation:
    num_classes = logits.shape[1]
    if independent:
        probabilities = sigmoid(logits)
        loss = metrics.binary_cross_entropy(logits, np.arange(num_classes) == labels[:, None])
    else:
        probabilities = softmax(logits)
        loss = metrics.cross_entropy(probabilities, labels)
    return _of_probabilities(probabilities, loss, labels, columns, common, files)


def with_probabilities(evaluation: Evaluation, probabilities: np.ndarray) -> Evaluation:
    """Returns what the evaluation of a model of the images' classes is with other probabilities.

    Args:
        evaluation: The evaluation.
        probabilities: Shape (images, classes).
    """
    common = {name: getattr(evaluation, name) for name in ("class_names", "images", "images_per_second")}
    files = [row["file"] for row in evaluation.predictions if "file" in row]
    labels, columns = evaluation.labels, np.arange(len(evaluation.class_names))
    loss = metrics.cross_entropy(probabilities, labels)
    return _of_probabilities(probabilities, loss, labels, columns, common, files)


def _of_probabilities(
    probabilities: np.ndarray,
    loss: float,
    labels: np.ndarray,
    columns: np.ndarray,
    common: dict[str, Any],
    files: Sequence[str],
) -> Evaluation:
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    image_class = np.full(num_classes, -1)  # the model may have classes that the images do not have
    image_class[columns] = np.arange(len(columns))
    confidence = probabilities.max(axis=1)
    bins = metrics.reliability(confidence, predicted == labels)
    names = [*common["class_names"], "another class"]  # at -1
    rows: list[dict[str, Any]] = [
        {
            "image": i,
            "class": names[image_class[label]],
            "predicted": names[image_class[prediction]],
            "probability": float(confidence[i]),
            **({"file": files[i]} if files else {}),
        }
        for i, (label, prediction) in enumerate(zip(labels, predicted, strict=True))
    ]
    mistakes = np.flatnonzero(predicted != labels)
    mistakes = mistakes[np.argsort(-confidence[mistakes], kind="stable")]
    return Evaluation(
        **common,
        top1=float(np.mean(predicted == labels)),
        top5=metrics.top_k_accuracy(probabilities, labels) if num_classes > metrics.TOP else None,
        loss=loss,
        calibration_error=metrics.expected_calibration_error(bins),
        confusion=metrics.confusion_matrix(image_class[labels], image_class[predicted], len(columns)),
        per_class=metrics.per_class_metrics(image_class[labels], image_class[predicted], common["class_names"]),
        reliability=bins,
        worst_mistakes=[rows[i] for i in mistakes[:_SHOWN_IMAGES]],
        least_certain=[rows[i] for i in np.argsort(confidence, kind="stable")[:_SHOWN_IMAGES]],
        predictions=[{**row, "probability_of_class": float(probabilities[i, labels[i]])} for i, row in enumerate(rows)],
        probabilities=probabilities[:, columns],
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
