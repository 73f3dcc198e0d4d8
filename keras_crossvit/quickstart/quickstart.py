"""Trains crossvit_9_dagger on handwritten digits, evaluates and exports it."""

from __future__ import annotations

import dataclasses
import shlex
import time
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.log import log_to_stdout, logger
from keras_crossvit.exporting import export
from keras_crossvit.exporting.exporter import require_tensorflow_backend
from keras_crossvit.quickstart.digits import write_digits
from keras_crossvit.training import get_recipe, train

_MODEL = "crossvit_9_dagger"


@dataclasses.dataclass(frozen=True)
class QuickstartResult:
    """Result of `quickstart`. Printed, it says what was reached and what to try next.

    Args:
        accuracy: Top-1 accuracy on the validation images.
        images: Number of validation images.
        seconds: Duration of the whole.
        run: The run folder; it stands for its best model.
        report: The report of the run.
        saved_model: Folder of the SavedModel's version.
        largest_difference: Largest difference between its logits and the model's.
        image: A validation image, to classify next.
    """

    accuracy: float
    images: int
    seconds: float
    run: Path
    report: Path
    saved_model: Path
    largest_difference: float
    image: Path

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        run, image = shlex.quote(str(self.run)), shlex.quote(str(self.image))
        return f"""
Accuracy     {self.accuracy:.2%} on {self.images} validation images
Time         {minutes} min {seconds:02d} s
Report       {self.report}
SavedModel   {self.saved_model}, logits within {self.largest_difference:.1e} of the model's

What next
  Open the report in a browser, and classify an image:
    keras-crossvit predict {run} {image}
  Draw digits in a browser:
    keras-crossvit demo {run} digits_demo
  Serve the model:
    keras-crossvit serve {run}
  Train on your own images:
    keras-crossvit train FOLDER --weights imagenet"""


def quickstart(
    output: str | PathLike = "saved_models",
    *,
    runs: str | PathLike = "runs",
    seed: int = 0,
    epochs: int | None = None,
) -> QuickstartResult:
    """Trains crossvit_9_dagger on scikit-learn's handwritten digits with `train`, and exports it with `export`.

    Writes the images to `<runs>/digits`, the run with its report to `<runs>/quickstart`, and a SavedModel to the next
    version `<output>/crossvit_9_dagger/<version>`. After an interrupt the same call resumes; a finished run is only
    evaluated and exported again.

    Args:
        output: Folder of the exported models. Defaults to "saved_models".
        runs: Folder of the images and the run. Defaults to "runs".
        seed: Seed of weights, order and augmentation. Defaults to 0. Another seed has a run of its own.
        epochs: Number of epochs, which also has a run of its own. Defaults to None: the recipe's.

    Returns:
        Results of training and export.

    Raises:
        MissingLibraryError: scikit-learn or matplotlib is not installed.
        OperationError: the backend is not TensorFlow, or the SavedModel does not reproduce the model's outputs.
        RunInterrupted: Ctrl-C or SIGTERM. The state has been saved.
    """
    start = time.perf_counter()
    require_tensorflow_backend()
    recipe = get_recipe("quickstart", **({} if epochs is None else {"epochs": epochs}))
    output, runs = Path(output), Path(runs)
    output.mkdir(parents=True, exist_ok=True)  # fails now rather than after the training
    name = "quickstart" + (f"-{epochs}-epochs" if epochs else "") + (f"-seed-{seed}" if seed else "")
    digits, validation = runs / "digits", runs / "digits" / "val"
    with log_to_stdout():
        write_digits(digits)
        trained = train(digits, model=_MODEL, recipe=recipe, seed=seed, output=runs / name)
        assert trained is not None  # there is one process
        logger.info("Exporting a SavedModel and comparing it with the model ...")
        exported = export(trained.model, output / _MODEL, format="saved_model", images=validation)
    assert trained.evaluation is not None  # there is a validation set
    return QuickstartResult(
        accuracy=trained.evaluation.headline["top-1"],
        images=trained.evaluation.images,
        seconds=time.perf_counter() - start,
        run=trained.folder,
        report=trained.report,
        saved_model=exported.path,
        largest_difference=exported.largest_difference,
        image=min((validation / "7").iterdir()),
    )
