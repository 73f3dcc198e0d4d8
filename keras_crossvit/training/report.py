"""What a run leaves besides its models: evaluation, plots and the page `report.html`."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.files import printable, write_table, write_text
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.model_paths import read_run_settings
from keras_crossvit._internal.optional import require_library
from keras_crossvit.evaluation.evaluator import evaluate_split
from keras_crossvit.evaluation.plots import draw_learning_curves, try_to_draw
from keras_crossvit.evaluation.results import EvaluationResult, format_value
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.loading import load_model
from keras_crossvit.pipeline import draw_contact_sheet, training_batches
from keras_crossvit.training.callbacks import format_duration
from keras_crossvit.training.distributed import is_first_process
from keras_crossvit.training.plan import Plan
from keras_crossvit.training.run_folder import RunFolder


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
    plan: Plan, folder: RunFolder, history: list[dict[str, float]], missing: Mapping[str, str]
) -> TrainingResult:
    """Evaluates the best model of a run, and writes plots and report.

    Args:
        plan: The plan of the run.
        folder: Its folder.
        history: The metrics of every epoch.
        missing: Names of plots that could not be drawn, and the reasons.
    """
    best = load_model(folder.best)
    if best.config != plan.config:
        raise InvalidValueError(f"'{folder.best}' is not the model of this run; train again into another folder.")
    missing, evaluation = dict(missing), None
    if plan.dataset.validation is not None:
        logger.info("Evaluating the best model ...")
        evaluation = evaluate_split(best, plan.dataset, batch_size=plan.recipe.micro_batch_size)
        missing |= evaluation.write(folder.evaluation)
    missing |= try_to_draw(draw_learning_curves, folder.learning_curves, history)
    for name, reason in missing.items():
        logger.warning(f"'{name}' could not be drawn ({reason}).")
    write_report(folder, history, evaluation, plan.dataset.unreadable, missing)
    return TrainingResult(folder.path, best, history, evaluation, folder.best, folder.report)


def write_report(
    folder: RunFolder,
    history: Sequence[Mapping[str, float]],
    evaluation: EvaluationResult | None,
    unreadable: Sequence[tuple[str, str]] = (),
    missing: Mapping[str, str] | None = None,
) -> None:
    """Writes `report.html`, a page that contains its images.

    Args:
        folder: The run folder, in which the plots have been drawn.
        history: The metrics of every epoch.
        evaluation: Results of the best model on the validation set, or None.
        unreadable: Files that were left out, and the reasons. Defaults to none.
        missing: Names of plots that could not be drawn, and the reasons. Defaults to none.
    """
    jinja2 = require_library("jinja2", "train")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,  # file names may not be UTF-8
    )
    environment.filters["number"] = lambda value: f"{value:.4g}" if isinstance(value, float) else value
    environment.filters["percent"] = format_value
    environment.filters["base64"] = lambda path: base64.b64encode(path.read_bytes()).decode()
    settings = read_run_settings(folder.path)
    page = environment.get_template("report.html.jinja").render(
        title=f"{settings['model']} on {Path(settings['data']).name}",
        settings=settings,
        settings_json=json.dumps(settings, indent=2, ensure_ascii=False),
        facts=_facts(settings, history, evaluation),
        folder=folder,
        history=history,
        evaluation=evaluation,
        unreadable=[{"file": file, "problem": problem} for file, problem in unreadable],
        missing=missing or {},
    )
    write_text(folder.report, page)


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
