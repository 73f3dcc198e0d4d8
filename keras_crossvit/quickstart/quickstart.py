"""Trains crossvit_9_dagger on handwritten digits, and takes it all the way to a served artefact."""

from __future__ import annotations

import dataclasses
import math
import sys
import tempfile
import threading
import time
from os import PathLike
from pathlib import Path

import keras
import numpy as np

from keras_crossvit._internal.checks import require_integer
from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.optional import require_library
from keras_crossvit.evaluation.plots import draw_learning_curves, try_to_draw
from keras_crossvit.exporting import export, require_tensorflow_backend
from keras_crossvit.models.builders import CrossViT, crossvit_9_dagger
from keras_crossvit.quickstart.digits import CLASSES, Digits, augmented_batches, load_digits
from keras_crossvit.quickstart.prediction_plot import draw_predictions
from keras_crossvit.runtimes import load_runtime
from keras_crossvit.training.optimization import make_optimizer
from keras_crossvit.training.recipes import QUICKSTART, Recipe
from keras_crossvit.training.signals import SignalHandler, StopOnSignal

NAME = "crossvit_9_dagger"


@dataclasses.dataclass(frozen=True)
class QuickstartResult:
    """What quickstart found and wrote.

    Args:
        accuracy: Share of held-out digits that are right.
        seconds: Time of the whole run.
        largest_difference: Largest difference of a probability among the model, the .keras file and the SavedModel.
        saved_model: Folder of the SavedModel's version.
        keras_file: The .keras file.
        predictions: Picture of sample predictions.
        learning_curves: Picture of loss and accuracy over the epochs.
    """

    accuracy: float
    seconds: float
    largest_difference: float
    saved_model: Path
    keras_file: Path
    predictions: Path
    learning_curves: Path


def quickstart(
    output: str | PathLike = "saved_models", *, seed: int = 0, epochs: int | None = None
) -> QuickstartResult:
    """Trains crossvit_9_dagger on scikit-learn's handwritten digits, exports it and loads it again.

    Writes `<output>/crossvit_9_dagger/<version>/` (a SavedModel, the next version that is free), and
    `crossvit_9_dagger.keras`, `crossvit_9_dagger_predictions.png` and `crossvit_9_dagger_learning_curves.png` of the
    latest run; each whole or not at all.

    Args:
        output: Folder to write to. Defaults to "saved_models".
        seed: Fixes weights, split and order. Defaults to 0.
        epochs: Rounds through the digits. Defaults to None: those of the recipe.

    Returns:
        Accuracy, time, agreement and where each file lies.

    Raises:
        ModuleNotFoundError: scikit-learn or matplotlib is missing; the message says how to install them.
        RuntimeError: Keras runs on another backend than TensorFlow, or the SavedModel's outputs differ from the model's
            by more than 1e-5 of the largest; no model has been written.
        KeyboardInterrupt: Ctrl-C or SIGTERM; in training after the step, or at once the second time.
    """
    started = time.perf_counter()
    require_tensorflow_backend()
    for library in ("sklearn", "matplotlib"):
        require_library(library, "quickstart")
    recipe = QUICKSTART
    if epochs is not None:
        recipe = dataclasses.replace(recipe, epochs=require_integer("epochs", epochs, minimum=1))
    output = Path(output)
    _require_writable(output)

    keras.utils.set_random_seed(seed)
    model = crossvit_9_dagger(
        num_classes=len(CLASSES), class_names=CLASSES, img_size=recipe.img_size, drop_path_rate=recipe.drop_path_rate
    )
    train, validation = load_digits(model.config, seed=seed)
    print(model)
    print(f"Training on {len(train.labels)} handwritten digits; {len(validation.labels)} are held out.", flush=True)
    history = _fit(model, train, validation, recipe, seed)

    print("Exporting, and loading both files again ...", flush=True)
    probabilities = _probabilities(model, validation.inputs)
    with atomic_write(output / f"{NAME}.keras") as keras_file:
        model.save(keras_file)
        reloaded = _probabilities(keras.saving.load_model(keras_file), validation.inputs)
        exported = export(model, output / NAME, format="saved_model", images=validation.images[..., None])
    served = load_runtime(exported.path, quiet=True).probabilities(*validation.inputs)
    predictions, curves = output / f"{NAME}_predictions.png", output / f"{NAME}_learning_curves.png"
    missing = try_to_draw(draw_predictions, predictions, validation.images, validation.labels, served)
    missing |= try_to_draw(draw_learning_curves, curves, history)
    for name, why in missing.items():
        print(f"'{name}' could not be drawn ({why}).")
    result = QuickstartResult(
        accuracy=float(np.mean(served.argmax(axis=1) == validation.labels)),
        seconds=time.perf_counter() - started,
        largest_difference=float(max(np.abs(other - probabilities).max() for other in (reloaded, served))),
        saved_model=exported.path,
        keras_file=output / f"{NAME}.keras",
        predictions=predictions,
        learning_curves=curves,
    )
    print(_summary(result, len(validation.labels)))
    return result


def _fit(model: CrossViT, train: Digits, validation: Digits, recipe: Recipe, seed: int) -> list[dict[str, float]]:
    interrupted = threading.Event()
    with SignalHandler(interrupted):
        batches = augmented_batches(train, batch_size=recipe.batch_size, seed=seed)
        model.compile(
            make_optimizer(model, recipe, math.ceil(len(train.labels) / recipe.batch_size)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,  # a run of minutes does not earn back what XLA's compilation costs
        )
        fitted = model.fit(
            batches,
            epochs=recipe.epochs,
            validation_data=(validation.inputs, validation.labels),
            validation_batch_size=recipe.batch_size,
            shuffle=False,  # the batches come shuffled
            callbacks=[StopOnSignal(interrupted)],
            verbose=1 if sys.stdout.isatty() else 2,  # a progress bar, or a line per epoch in a log file
        )
    return [dict(zip(fitted.history, row, strict=True)) for row in zip(*fitted.history.values(), strict=True)]


def _probabilities(model: CrossViT, inputs: list[np.ndarray]) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.softmax(model(inputs, training=False)))


def _require_writable(folder: Path) -> None:
    """Raises OSError now rather than after the training."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return


def _summary(result: QuickstartResult, validation: int) -> str:
    minutes, seconds = divmod(round(result.seconds), 60)
    return f"""
Accuracy    {result.accuracy:.2%} of {validation} held-out digits
Time        {minutes} min {seconds:02d} s
Agreement   model, .keras file and SavedModel (in a process without Keras) within {result.largest_difference:.1e}
SavedModel  {result.saved_model}
Keras file  {result.keras_file}
Pictures    {result.predictions}
            {result.learning_curves}

What next   Ask it:               keras-crossvit predict {result.keras_file} PICTURE...
            In Python:            import keras, keras_crossvit; keras.saving.load_model("{result.keras_file}")
            Train on your own:    keras-crossvit train FOLDER, or {NAME}(num_classes=...) and model.fit
            Serve:                TensorFlow Serving with {result.saved_model.parent}, or keras-crossvit serve"""
