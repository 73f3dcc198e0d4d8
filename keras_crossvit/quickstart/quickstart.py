"""Trains crossvit_9_dagger on handwritten digits, evaluates and exports it."""

from __future__ import annotations

import shlex
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.log import log_to_stdout, logger
from keras_crossvit.exporting import export
from keras_crossvit.exporting.exporter import require_tensorflow_backend
from keras_crossvit.quickstart.digits import write_digits
from keras_crossvit.training import TrainingResult, get_recipe, train

_MODEL = "crossvit_9_dagger"
_SUMMARY = """
Accuracy     {accuracy:.2%} on {images} validation images
Report       {report}
SavedModel   {saved_model}, logits within {difference:.1e} of the model's

Open the report in a browser. Then:
  keras-crossvit predict {run} {image}    # classify an image
  keras-crossvit demo {run} digits_demo    # draw digits in a browser
  keras-crossvit serve {run}    # answer requests
  keras-crossvit train FOLDER    # fine-tune on your own images"""


@known_keywords_only
def quickstart(
    output: str | PathLike = "saved_models", *, runs: str | PathLike = "runs", seed: int = 0, epochs: int | None = None
) -> TrainingResult:
    """Trains crossvit_9_dagger on scikit-learn's handwritten digits with `train`, and exports it with `export`.

    Writes the images to `<runs>/digits`, the run with its report to `<runs>/quickstart`, and a SavedModel to
    `<output>/crossvit_9_dagger/<version>`, the next free version. Prints what was reached and what to try next. After
    an interrupt the same call resumes; a finished run is only evaluated and exported again.

    Args:
        output: Folder of the exported models. Defaults to "saved_models".
        runs: Folder of the images and the run. Defaults to "runs".
        seed: Seed of weights, order and augmentation. Defaults to 0. Another seed gets its own run folder.
        epochs: Number of epochs, which also gets its own run folder. Defaults to None: the recipe's.

    Returns:
        The result of the training.

    Raises:
        MissingLibraryError: scikit-learn or matplotlib is not installed.
        OperationError: the backend is not TensorFlow, or the SavedModel does not reproduce the model's outputs.
        RunInterrupted: Ctrl-C or SIGTERM. The state has been saved.
    """
    require_tensorflow_backend()
    recipe = get_recipe("quickstart", **({} if epochs is None else {"epochs": epochs}))
    output, runs = Path(output), Path(runs)
    output.mkdir(parents=True, exist_ok=True)  # fails now rather than after the training
    name = "quickstart" + (f"-{epochs}-epochs" if epochs else "") + (f"-seed-{seed}" if seed else "")
    digits, validation = runs / "digits", runs / "digits" / "val"
    with log_to_stdout():
        write_digits(digits)
        result = train(digits, model=_MODEL, recipe=recipe, seed=seed, output=runs / name)
        assert result is not None  # only further processes of a run get None
        assert result.evaluation is not None  # there is a validation set
        logger.info("Exporting a SavedModel and comparing it with the model ...")
        exported = export(result.model, output / _MODEL, format="saved_model", images=validation)
        logger.info(
            _SUMMARY.format(
                accuracy=result.evaluation.headline["top-1"],
                images=result.evaluation.images,
                report=result.report,
                saved_model=exported.path,
                difference=exported.largest_difference,
                run=shlex.quote(str(result.folder)),
                image=shlex.quote(str(min((validation / "7").iterdir()))),
            )
        )
    return result
