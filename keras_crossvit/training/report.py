"""What a run leaves besides its models: evaluation, plots and the page `report.html`."""

from __future__ import annotations

import base64
import dataclasses
import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError, MissingLibraryError
from keras_crossvit._internal.figures import try_to_draw
from keras_crossvit._internal.files import atomic_write, write_table, write_text
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.model_paths import read_run_settings
from keras_crossvit._internal.optional import require_library
from keras_crossvit._internal.user_text import one_line, printable
from keras_crossvit.evaluation.evaluator import evaluate_split, with_probabilities
from keras_crossvit.evaluation.plots import draw_coverage, draw_learning_curves, draw_reliability
from keras_crossvit.evaluation.results import Evaluation, EvaluationResult
from keras_crossvit.evaluation.suspected_labels import suspected_labels
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.loading import load_model
from keras_crossvit.pipeline import ImageDataset, draw_contact_sheet, training_batches
from keras_crossvit.pipeline.duplicates import find_duplicates
from keras_crossvit.pipeline.splits import FileSplit, Split
from keras_crossvit.preprocessing.calibration import ACCURACY, fit_calibration
from keras_crossvit.training.callbacks import format_duration
from keras_crossvit.training.distributed import is_first_process
from keras_crossvit.training.explained_images import draw_duplicates, draw_explained_images, explained_thumbnails
from keras_crossvit.training.model_card import model_card
from keras_crossvit.training.plan import Plan
from keras_crossvit.training.run_folder import RunFolder
from keras_crossvit.training.templates import open_template

_TITLES = {
    "worst_mistakes": "Wrong, with the highest probability",
    "least_certain": "Least certain, with the lowest probability",
    "suspected_labels": "Labels that may be wrong",
}
_SHOWN_ROWS = 8
_COVERAGE, _RELIABILITY_BEFORE = "coverage.png", "reliability_before_calibration.png"  # in the folder of the evaluation


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The result of `train`.

    Args:
        folder: The run folder.
        model: The best model.
        history: The metrics of every epoch, as in `metrics.csv`.
        evaluation: Results of the best model on the validation set, or None without one.
        best: Path of the best model.
        report: Path of the report.
    """

    folder: Path
    model: CrossViT
    history: list[dict[str, float]]
    evaluation: EvaluationResult | None
    best: Path
    report: Path


@dataclasses.dataclass(frozen=True)
class Findings:
    """Images of a run to look at.

    Args:
        predictions: Some of the evaluation's `predictions`, by the name of their drawing.
        duplicates: Rows of `find_duplicates`.
        unavailable: What was not looked for, and why.
    """

    predictions: Mapping[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    duplicates: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    unavailable: list[str] = dataclasses.field(default_factory=list)

    @property
    def tables(self) -> list[dict[str, Any]]:
        """For each drawing of predictions its file name, title and table."""
        return [
            {
                "name": f"{name}.png",
                "title": _TITLES[name],
                "rows": [
                    {
                        "": i,
                        **{key: row[key] for key in ("class", "predicted", "probability")},
                        **({"file": one_line(row["file"])} if "file" in row else {"image": row["image"]}),
                    }
                    for i, row in enumerate(rows, start=1)
                ],
            }
            for name, rows in self.predictions.items()
        ]


def require_report_libraries() -> None:
    """Raises MissingLibraryError unless the libraries for plots and the report are installed."""
    for library in ("matplotlib", "jinja2", "sklearn"):
        require_library(library, "train")


def record_inputs(plan: Plan, folder: RunFolder) -> dict[str, str]:
    """Writes the list of unreadable images and a contact sheet of augmented ones, unless an earlier call has.

    Returns:
        The name of the contact sheet and the reason, if it could not be drawn.
    """
    if not is_first_process() or folder.contact_sheet.exists():
        return {}
    if plan.dataset.unreadable:
        write_table(
            folder.unreadable, [{"file": file, "problem": problem} for file, problem in plan.dataset.unreadable]
        )
    batches = training_batches(
        plan.dataset, plan.config, plan.recipe.augmentation, plan.recipe.micro_batch_size, seed=plan.seed, epoch=0
    )
    names = plan.dataset.class_names
    return try_to_draw(draw_contact_sheet, folder.contact_sheet, batches, plan.config, class_names=names)


def finish_run(
    plan: Plan,
    folder: RunFolder,
    history: list[dict[str, float]],
    missing: Mapping[str, str],
    evaluation: EvaluationResult | None = None,
) -> TrainingResult:
    """Evaluates the best model of a run, and writes plots and report.

    Args:
        plan: The plan of the run.
        folder: Its folder.
        history: The metrics of every epoch.
        missing: Names of plots that could not be drawn, and the reasons.
        evaluation: Results of the best model on the validation images. Defaults to None: they are computed.
    """
    best = load_model(folder.best)
    if best.config != plan.config:
        raise InvalidValueError(f"'{folder.best}' is not the model of this run; train again into another folder.")
    missing, validation = dict(missing), plan.dataset.validation
    if validation is not None:
        if evaluation is None:
            logger.info("Evaluating the best model ...")
            best.calibration = None  # of an earlier call
            evaluation = evaluate_split(best, plan.dataset, batch_size=plan.recipe.micro_batch_size)
        if isinstance(evaluation, Evaluation) and best.classifier_activation is None:
            (evaluation, threshold), before = _calibrate(best, evaluation), evaluation
            with atomic_write(folder.best) as unfinished:
                best.save(unfinished)
            curves = {"before calibration": before, "after": evaluation}
            missing |= try_to_draw(draw_coverage, folder.evaluation / _COVERAGE, curves, threshold)
            missing |= try_to_draw(
                draw_reliability, folder.evaluation / _RELIABILITY_BEFORE, before.reliability, before.calibration_error
            )
        missing |= evaluation.write(folder.evaluation)
    found = find_notable_images(plan.dataset, evaluation)
    missing |= _draw_findings(best, validation, found, folder)
    missing |= try_to_draw(draw_learning_curves, folder.learning_curves, history)
    for name, reason in missing.items():
        logger.warning("'%s' could not be drawn (%s).", name, reason)
    write_report(folder, history, evaluation, plan.dataset.unreadable, missing, found)
    write_text(folder.model_card, model_card(folder.path, best))
    return TrainingResult(folder.path, best, history, evaluation, folder.best, folder.report)


def write_report(
    folder: RunFolder,
    history: Sequence[Mapping[str, float]],
    evaluation: EvaluationResult | None,
    unreadable: Sequence[tuple[str, str]] = (),
    missing: Mapping[str, str] | None = None,
    found: Findings | None = None,
) -> None:
    """Writes `report.html`, a page that contains its images.

    Args:
        folder: The run folder, in which the plots have been drawn.
        history: The metrics of every epoch.
        evaluation: Results of the best model on the validation set, or None.
        unreadable: Files that were left out, and the reasons. Defaults to none.
        missing: Names of plots that could not be drawn, and the reasons. Defaults to none.
        found: Images to look at, which have been drawn. Defaults to None.
    """
    template = open_template(
        "report.html.jinja",
        autoescape=True,
        safe_text=printable,
        number=lambda value: f"{value:.4g}" if isinstance(value, float) else value,
        base64=lambda path: base64.b64encode(path.read_bytes()).decode(),
    )
    settings = read_run_settings(folder.path)
    page = template.render(
        title=f"{settings['model']} on {Path(settings['data']).name}",
        settings=settings,
        settings_json=json.dumps(settings, indent=2, ensure_ascii=False),
        facts=_facts(settings, history, evaluation),
        folder=folder,
        history=history,
        evaluation=evaluation,
        found=found or Findings(),
        shown_rows=_SHOWN_ROWS,
        coverage=_COVERAGE,
        reliability_before=_RELIABILITY_BEFORE,
        unreadable=[{"file": file, "problem": problem} for file, problem in unreadable],
        missing=missing or {},
    )
    write_text(folder.report, page)


def _calibrate(model: CrossViT, evaluation: Evaluation) -> tuple[Evaluation, float | None]:
    """Fits the calibration of a model to its validation images; returns their results with it, and the threshold."""
    # A softmax gives the same for logits and for logarithms of their probabilities.
    logits = np.log(np.maximum(evaluation.probabilities, np.finfo("float32").tiny))
    calibration, probabilities = fit_calibration(logits, evaluation.labels)
    model.calibration, threshold = calibration, calibration.threshold
    calibrated = with_probabilities(evaluation, probabilities)
    rule = f"no probability from which on {ACCURACY:.0%} are right"
    if threshold is not None:
        answered = np.mean(probabilities.max(axis=1) >= threshold)
        rule = f"{ACCURACY:.0%} right from {threshold:.1%} on, which {answered:.1%} of the images reach"
    logger.info(
        "Calibrated with temperature %.2f · calibration error %.2f %% -> %.2f %% · %s",
        calibration.temperature,
        100 * evaluation.calibration_error,
        100 * calibrated.calibration_error,
        rule,
    )
    return calibrated, threshold


def find_notable_images(dataset: ImageDataset, evaluation: EvaluationResult | None) -> Findings:
    """Returns the images of a run that a person should look at.

    Args:
        dataset: The training and validation images.
        evaluation: Results of the best model on the validation images, or None.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    duplicates: list[dict[str, Any]] = []
    unavailable: list[str] = []
    if isinstance(evaluation, Evaluation):  # images of several classes have no single prediction
        groups = {"worst_mistakes": evaluation.worst_mistakes, "least_certain": evaluation.least_certain}
        try:
            groups["suspected_labels"] = suspected_labels(evaluation)[:_SHOWN_ROWS]
        except MissingLibraryError as error:
            unavailable.append(f"Labels that may be wrong: {error}")
    named = {"training": dataset.training, "validation": dataset.validation}
    splits = {name: split for name, split in named.items() if isinstance(split, FileSplit) and not split.is_multi_label}
    if splits:
        try:
            duplicates = find_duplicates(splits, dataset.class_names)
        except MissingLibraryError as error:
            unavailable.append(f"Duplicates: {error}")
    return Findings({name: rows for name, rows in groups.items() if rows}, duplicates, unavailable)


def _draw_findings(model: CrossViT, split: Split | None, found: Findings, folder: RunFolder) -> dict[str, str]:
    missing: dict[str, str] = {}
    all_rows = list(itertools.chain.from_iterable(found.predictions.values()))
    # Only a split has rows.
    thumbnails = functools.cache(lambda: explained_thumbnails(model, cast(Split, split), all_rows))
    for name in _TITLES:
        if rows := found.predictions.get(name):
            missing |= try_to_draw(draw_explained_images, folder.evaluation / f"{name}.png", thumbnails, rows)
        else:
            (folder.evaluation / f"{name}.png").unlink(missing_ok=True)
    if found.duplicates:
        write_table(folder.duplicates.with_suffix(".csv"), found.duplicates)
        missing |= try_to_draw(draw_duplicates, folder.duplicates, found.duplicates[: 3 * _SHOWN_ROWS])
    else:
        for path in (folder.duplicates, folder.duplicates.with_suffix(".csv")):
            path.unlink(missing_ok=True)
    return missing


def _facts(
    settings: Mapping[str, Any], history: Sequence[Mapping[str, float]], evaluation: EvaluationResult | None
) -> dict[str, str]:
    if evaluation is None:
        metrics = {f"{name.replace('_', ' ')}, last": history[-1][name] for name in history[-1] if "accuracy" in name}
    else:
        metrics = {**evaluation.headline, "calibration error": evaluation.calibration_error}
    facts = {name: f"{value:.2%}" for name, value in metrics.items()}
    facts["epochs"] = f"{len(history)} of {settings['recipe']['epochs']}"
    facts["time"] = format_duration(sum(row["seconds"] for row in history))
    if fastest := max(row["images_per_second"] for row in history):  # 0 if an epoch has one step
        facts["training"] = f"{fastest:.0f} images/s"
    return facts
