"""A linear probe: the features of all images, computed once, and heads fitted to them."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from safetensors import SafetensorError

from keras_crossvit._internal.files import atomic_write, write_table
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.optional import require_library
from keras_crossvit.evaluation.evaluator import evaluate_logits
from keras_crossvit.evaluation.results import EvaluationResult
from keras_crossvit.models.config import BRANCHES
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.pipeline import evaluation_batches
from keras_crossvit.preprocessing.predictions import sigmoid, softmax
from keras_crossvit.runtimes.metadata import metadata_of
from keras_crossvit.training.callbacks import format_duration, save_without_optimizer
from keras_crossvit.training.plan import Plan
from keras_crossvit.training.recipes import Recipe
from keras_crossvit.training.resume import RunInterrupted
from keras_crossvit.training.run_folder import RunFolder

_BATCHES_PER_FILE = 16
_TENSORS = ("features", "targets")  # in a file
Split = tuple[np.ndarray, np.ndarray]  # features (images, both branches' channels) and targets (images, classes)


def fit_probe(
    model: CrossViT, plan: Plan, folder: RunFolder, *, show_progress: bool
) -> tuple[list[dict[str, float]], EvaluationResult | None]:
    """Fits the heads of a model to the features of the images, and saves the best and the last model.

    The features of every image are computed once, without augmentation, and kept in the folder. An interrupted run
    computes those that are missing.

    Returns:
        Losses and metrics after every iteration of L-BFGS; and the results of the best model on the validation images,
        by their features, or None without any.

    Raises:
        RunInterrupted: Ctrl-C. The features up to now are in the folder.
    """
    model.calibration = None  # of the heads that are replaced
    splits: dict[str, Split] = {}
    started = time.perf_counter()
    names = [name for name in ("training", "validation") if getattr(plan.dataset, name) is not None]
    with _bar(sum(len(getattr(plan.dataset, name)) for name in names), show=show_progress) as advance:
        try:
            for name in names:
                splits[name] = _features(model, plan, name, folder, advance)
        except KeyboardInterrupt:
            raise RunInterrupted from None
    seconds = time.perf_counter() - started
    images = sum(len(targets) for _, targets in splits.values())
    logger.info("Features of %s images · %s", f"{images:,}", format_duration(seconds))
    rows, best, last = fit_heads(splits["training"], splits.get("validation"), plan.recipe, plan.class_weights)
    rows[0] |= {"seconds": round(rows[0]["seconds"] + seconds, 3), "images_per_second": round(images / seconds, 2)}
    write_table(folder.metrics, rows)
    for coefficients, path in ((last, folder.last), (best, folder.best)):
        _set_heads(model, coefficients)
        save_without_optimizer(model, path, plan.recipe.classifier_activation)
    metrics = " · ".join(
        f"{name} {value:.4f}" for name, value in rows[-1].items() if name.endswith(("loss", "accuracy"))
    )
    logger.info("Heads fitted in %d iterations · %s", len(rows), metrics)
    validation = plan.dataset.validation
    if validation is None:
        return rows, None
    features, targets = splits["validation"]
    labels = targets if plan.dataset.is_multi_label else targets.argmax(axis=1)
    logits = (_with_ones(features) @ best).astype("float32")
    return rows, evaluate_logits(metadata_of(model), plan.dataset, validation, logits, labels, seconds)


def fit_heads(
    training: Split, validation: Split | None, recipe: Recipe, class_weights: tuple[float, ...] | None = None
) -> tuple[list[dict[str, float]], np.ndarray, np.ndarray]:
    """Minimizes the recipe's loss of linear heads, with `weight_decay` as the L2 penalty of their kernels, by L-BFGS.

    Returns:
        Losses and metrics after every iteration, of at most `recipe.epochs`; and the coefficients of the best iteration
        (the last without validation images, else by their accuracy and then their loss) and of the last, shape
        (channels + 1, classes).
    """
    optimize = require_library("scipy.optimize", "train")
    (features, targets), rows = training, list[dict[str, float]]()
    inputs = _with_ones(features)
    images, (channels, classes) = len(targets), (inputs.shape[1], targets.shape[1])
    weights = np.ones(images) if class_weights is None else targets @ np.array(class_weights)
    best: tuple[tuple[float, float], np.ndarray] | None = None
    best_epoch, started = 0, time.perf_counter()

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        coefficients = flat.reshape(channels, classes)
        losses, slopes = _losses(inputs @ coefficients, targets, recipe.loss)
        kernel = np.concatenate([coefficients[:-1], np.zeros((1, classes))])
        loss = np.mean(weights * losses) + 0.5 * recipe.weight_decay * np.sum(kernel**2)
        return float(loss), (inputs.T @ (weights[:, None] * slopes) / images + recipe.weight_decay * kernel).ravel()

    def record(intermediate_result: Any) -> None:
        nonlocal best, best_epoch
        coefficients = intermediate_result.x.reshape(channels, classes).copy()
        row = {"epoch": len(rows) + 1, **_metrics(inputs, targets, coefficients, recipe.loss)}
        if validation is not None:
            measured = _metrics(_with_ones(validation[0]), validation[1], coefficients, recipe.loss)
            row |= {f"val_{name}": value for name, value in measured.items()}
        rows.append({**row, "seconds": round(time.perf_counter() - started, 3), "images_per_second": 0.0})
        value = (row.get("val_accuracy", 0.0), -row.get("val_loss", 0.0))
        if best is None or validation is None or value > best[0]:
            best, best_epoch = (value, coefficients), len(rows)
        if recipe.patience is not None and len(rows) - best_epoch >= recipe.patience:
            raise StopIteration

    start = np.zeros(channels * classes)
    options = {"maxiter": recipe.epochs}
    result = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", callback=record, options=options)
    if best is None:  # nothing is better than the start
        record(result)
    assert best is not None
    return _seconds_of_each(rows), best[1], result.x.reshape(channels, classes)


def _features(model: CrossViT, plan: Plan, split: str, folder: RunFolder, advance: Callable[[int], None]) -> Split:
    """Computes the features and targets of a split, or reads them from the files of an earlier call."""
    heads = [model.get_layer(f"{branch}_head") for branch in BRANCHES]
    backbone = keras.Model(model.inputs, [head.input for head in heads])
    backbone.compile(jit_compile=keras.backend.backend() == "jax")
    size, count = plan.recipe.micro_batch_size, len(getattr(plan.dataset, split))
    rows, key = size * _BATCHES_PER_FILE, _key(backbone, folder)
    channels = sum(int(head.input.shape[-1]) for head in heads)
    paths = [folder.features / f"{split}-{key}-{start:09d}.safetensors" for start in range(0, count, rows)]
    parts: list[Split] = []
    for i, path in enumerate(paths):
        part = _read(path, min(rows, count - i * rows), channels, plan.config.num_classes)
        if part is None:
            break
        parts.append(part)
        advance(len(part[1]))
    batches = evaluation_batches(plan.dataset, plan.config, size, split=split).skip(len(parts) * _BATCHES_PER_FILE)
    pending: list[Split] = []
    for images, targets in batches:
        outputs = backbone.predict_on_batch(list(images))
        pending.append((np.concatenate(outputs, axis=1).astype("float32"), np.asarray(targets, "float32")))
        advance(len(outputs[0]))
        done = len(parts) * rows + sum(len(targets) for _, targets in pending)
        if len(pending) == _BATCHES_PER_FILE or done == count:
            parts.append(_joined(pending))
            with atomic_write(paths[len(parts) - 1]) as unfinished:
                safetensors.numpy.save_file(dict(zip(_TENSORS, parts[-1], strict=True)), unfinished)
            pending = []
    return _joined(parts)


def _key(backbone: keras.Model, folder: RunFolder) -> str:
    """Returns a name for features that depends on the run's settings and images, and on the weights."""
    digest = hashlib.sha256(str(folder.settings_sha256).encode())
    for weight in backbone.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).tobytes())
    return digest.hexdigest()[:16]


def _read(path: Path, rows: int, channels: int, classes: int) -> Split | None:
    """Returns the content of a file of features, or None if there is none or it is damaged."""
    try:
        stored = safetensors.numpy.load(path.read_bytes())
    except (OSError, SafetensorError):
        return None
    shapes = {name: (array.dtype.name, array.shape) for name, array in stored.items()}
    if shapes != {"features": ("float32", (rows, channels)), "targets": ("float32", (rows, classes))}:
        return None
    return stored["features"], stored["targets"]


def _joined(parts: list[Split]) -> Split:
    features, targets = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return features, targets


def _with_ones(features: np.ndarray) -> np.ndarray:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def _losses(logits: np.ndarray, targets: np.ndarray, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the loss of every image, shape (images,), and its slopes, shape (images, classes)."""
    if loss == "binary":
        each = np.logaddexp(0, logits) - targets * logits
        return each.mean(axis=1), (sigmoid(logits) - targets) / targets.shape[1]
    highest = logits.max(axis=1, keepdims=True)
    normalizers = np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0]
    return normalizers - np.sum(targets * logits, axis=1), softmax(logits) - targets


def _metrics(inputs: np.ndarray, targets: np.ndarray, coefficients: np.ndarray, loss: str) -> dict[str, float]:
    logits = inputs @ coefficients
    mean = float(_losses(logits, targets, loss)[0].mean())
    if loss == "binary":
        return {"loss": mean, "binary_accuracy": float(np.mean((logits > 0) == (targets > 0.5)))}
    return {"loss": mean, "accuracy": float(np.mean(logits.argmax(axis=1) == targets.argmax(axis=1)))}


def _seconds_of_each(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Returns the rows with the seconds of each iteration instead of those since the start."""
    ends = [0.0, *(row["seconds"] for row in rows)]
    return [{**row, "seconds": round(row["seconds"] - end, 3)} for row, end in zip(rows, ends, strict=False)]


def _set_heads(model: CrossViT, coefficients: np.ndarray) -> None:
    """Sets the heads of both branches, of whose logits the model takes the mean."""
    start = 0
    for branch in BRANCHES:
        head = model.get_layer(f"{branch}_head")
        stop = start + head.kernel.shape[0]
        head.kernel.assign(len(BRANCHES) * coefficients[start:stop])
        head.bias.assign(coefficients[-1])
        start = stop


@contextlib.contextmanager
def _bar(images: int, *, show: bool) -> Iterator[Callable[[int], None]]:
    """Context with a progress bar on a terminal; gives a function that advances it by a number of images."""
    columns = (TextColumn("features"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with ProgressBar(*columns, transient=True, disable=not (show and sys.stdout.isatty())) as bar:
        task = bar.add_task("", total=images)
        yield lambda done: bar.advance(task, done)
