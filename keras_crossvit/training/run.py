"""From pictures to a trained, evaluated model in a folder of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_crossvit._internal.errors import InvalidValueError, explain_tensorflow_errors
from keras_crossvit._internal.files import write_table
from keras_crossvit._internal.optional import require_library
from keras_crossvit.evaluation.evaluator import evaluate_split
from keras_crossvit.evaluation.plots import draw_learning_curves, try_to_draw
from keras_crossvit.evaluation.results import EvaluationResult
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.loading import load_model
from keras_crossvit.pipeline import draw_contact_sheet, evaluation_batches, training_batches
from keras_crossvit.training.callbacks import (
    BestModel,
    FiniteLoss,
    MetricsTable,
    Progress,
    monitored,
    save_without_optimizer,
)
from keras_crossvit.training.distillation import Distiller
from keras_crossvit.training.distributed import (
    Distribution,
    disconnect,
    distributed,
    is_first_process,
    without_distribution,
)
from keras_crossvit.training.optimization import EvaluateEMA, add_sample_weights, compile_for_recipe, make_metrics
from keras_crossvit.training.plan import Plan, plan_training
from keras_crossvit.training.report import write_report
from keras_crossvit.training.resume import RESUMABLE, Interval, ResumableState, fit_resumable
from keras_crossvit.training.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a run found, and where it lies.

    Args:
        folder: The run's folder.
        model: The best model, ready for use.
        history: A row of figures per epoch, as in `metrics.csv`.
        evaluation: The best model on held-out pictures; None where there are none.
        best: Its `.keras` file.
        report: The page that shows all of it.
    """

    folder: Path
    model: CrossViT
    history: list[dict[str, float]]
    evaluation: EvaluationResult | None
    best: Path
    report: Path


def train(
    data: Any,
    *,
    output: str | PathLike | None = None,
    checkpoint_every: str = "5m",
    quiet: bool = False,
    distribute: str | None = None,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    **settings: Any,
) -> TrainingResult | None:
    """Trains a CrossViT on one's own pictures, and leaves a folder with model, figures, pictures and report.

    Stopped at any moment, by Ctrl-C or kill -9, the same call goes on where it was, to the same weights bit for bit (on
    the same machines, devices and versions; docs/scaling.md says what was seen where).

    Args:
        data: The pictures, as `plan_training` takes them.
        output: Folder of the run. Defaults to None: `runs/<pictures>-<model>`.
        checkpoint_every: How often the state is written, beside the end of every epoch: "30s", "5m", "1h" or
            "200steps". Defaults to "5m".
        quiet: Whether nothing is printed. Defaults to False.
        distribute: "mirrored" or "data-parallel", to use several devices; see `distributed`. Defaults to None: one.
        coordinator: Address of process 0, where several processes share the run; see `distributed`.
        num_processes: How many processes.
        process_id: Which of them this is, from 0.
        **settings: Model, recipe, weights and all other arguments of `plan_training`.

    Returns:
        The best model and what was found; None in other processes than the first, which are then done.

    Raises:
        TypeError: a keyword is unknown.
        ValueError: something does not fit; the message says what would.
        OSError: a place cannot be read or written; the last state of the run is intact.
        RuntimeError: another process trains in the same folder, the loss is not finite any more, or TensorFlow cannot
            go on; the message says how to.
        ProcessLostError: another process of the run is gone; the same call in each goes on.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the state has been written.
    """
    require_library("matplotlib", "train")
    interval = Interval.parse(checkpoint_every)
    processes = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    with distributed(distribute, **processes) as distribution:
        say = _logger(quiet=quiet)
        plan = plan_training(data, **settings)
        distribution.check(plan.recipe)
        if plan.dataset.validation is None:
            say("No pictures are held out: nothing says how good the model is on others. validation_split=0.1 does.")
        if distribute is not None:
            say(f"On {distribution.describe()}.")
        if output is None:
            output = Path("runs") / f"{Path(plan.data).name}-{plan.name}"
        with RunFolder(output) as folder, explain_tensorflow_errors():
            if folder.claim(plan.settings()):
                say(f"Going on with the run in '{folder.path}'.")
            try:
                trained, history, missing = _fit(plan, folder, interval, distribution, say)
            except KeyboardInterrupt as interrupt:
                if RESUMABLE in interrupt.args:  # all have stopped after the same step
                    disconnect()
                raise
            save_without_optimizer(trained, folder.last, plan.recipe.classifier_activation)
            disconnect()
            if distribution.process_index > 0:
                return None
            evaluating = "" if plan.dataset.validation is None else "Evaluating the best model, "
            say(f"{evaluating}drawing, writing the report ...".capitalize())
            with without_distribution():
                return _conclude(plan, folder, history, missing, say)


def _fit(
    plan: Plan, folder: RunFolder, interval: Interval, distribution: Distribution, say: Callable[[str], None]
) -> tuple[CrossViT, list[dict[str, float]], dict[str, str]]:
    missing = {}
    with distribution.scope():
        model, trained = _compiled_model(plan, distribution, say)
    if is_first_process() and not folder.contact_sheet.exists():
        if unreadable := plan.dataset.unreadable:
            write_table(folder.unreadable, [{"file": file, "problem": problem} for file, problem in unreadable])
        sheet = _training_batches(plan, 0, 0, Distribution())
        names = plan.dataset.class_names
        missing = try_to_draw(draw_contact_sheet, folder.contact_sheet, sheet, plan.config, class_names=names)
    resume = ResumableState(folder.states, interval=interval, settings=folder.settings_digest)
    progress = Progress(
        plan.recipe.epochs,
        plan.steps_per_epoch,
        images_per_step=plan.recipe.micro_batch_size,
        log=folder.log,
        resume=resume,
        quiet=say is _silent,
    )
    callbacks, table = _callbacks(plan, folder, trained, progress, resume)
    try:
        fit_resumable(
            model,
            lambda epoch, skip: add_sample_weights(_training_batches(plan, epoch, skip, distribution), plan.class_weights),
            epochs=plan.recipe.epochs,
            resume=resume,
            validation_data=_validation_batches(plan, distribution),
            callbacks=callbacks,
        )
    finally:
        progress.close()
    return trained, table.rows, missing


def _compiled_model(plan: Plan, distribution: Distribution, say: Callable[[str], None]) -> tuple[Any, CrossViT]:
    """What is fitted, and the model within that is trained."""
    trained = plan.build_model(copy=distribution.mode is not None)
    model = trained
    if plan.teacher is not None:
        model = Distiller(trained, keras.saving.load_model(plan.teacher, compile=False))
    compile_for_recipe(
        model,
        plan.recipe,
        steps_per_epoch=plan.steps_per_epoch,
        trained=trained,
        jit_compile=plan.jit_compile,
    )
    return model, trained


def _callbacks(
    plan: Plan, folder: RunFolder, trained: CrossViT, progress: Progress, resume: ResumableState
) -> tuple[list, MetricsTable]:
    has_validation = plan.dataset.validation is not None
    monitor, mode = monitored(make_metrics(plan.recipe, plan.config.num_classes), has_validation=has_validation)
    averages = None if plan.recipe.ema_momentum is None else EvaluateEMA()
    table = MetricsTable(folder.metrics, folder.tensorboard, progress)
    activation = plan.recipe.classifier_activation
    best = BestModel(
        folder.best, trained, monitor=monitor, mode=mode, classifier_activation=activation, averages=averages
    )
    callbacks = [progress, table, best]
    if averages is not None:
        callbacks.append(averages)
    if plan.recipe.patience is not None:
        callbacks.append(keras.callbacks.EarlyStopping(monitor, mode=mode, patience=plan.recipe.patience))
    return [*callbacks, FiniteLoss(resume)], table


def _conclude(
    plan: Plan,
    folder: RunFolder,
    history: list[dict[str, float]],
    missing: dict[str, str],
    say: Callable[[str], None],
) -> TrainingResult:
    best = load_model(folder.best)
    if best.config != plan.config:
        raise InvalidValueError(
            f"'{folder.best}' holds another model than this run's; train it anew into another folder."
        )
    evaluation = None
    if plan.dataset.validation is not None:
        evaluation = evaluate_split(best, plan.dataset, batch_size=plan.recipe.micro_batch_size)
        missing |= evaluation.write(folder.evaluation)
    missing |= try_to_draw(draw_learning_curves, folder.learning_curves, history)
    write_report(folder, history, evaluation, plan.dataset.unreadable, missing)
    for name, why in missing.items():
        say(f"'{name}' could not be drawn ({why}).")
    return TrainingResult(folder.path, best, history, evaluation, folder.best, folder.report)


def _training_batches(plan: Plan, epoch: int, skip: int, distribution: Distribution) -> Any:
    return training_batches(
        plan.dataset,
        plan.config,
        plan.recipe.augmentation,
        plan.recipe.micro_batch_size,
        seed=plan.seed,
        epoch=epoch,
        skip_batches=skip,
        process_index=distribution.process_index,
        process_count=distribution.process_count,
    )


def _validation_batches(plan: Plan, distribution: Distribution) -> Any:
    if plan.dataset.validation is None:
        return None
    return evaluation_batches(
        plan.dataset,
        plan.config,
        plan.recipe.micro_batch_size,
        whole_batches=distribution.mode is not None,  # devices share whole batches alone
        process_index=distribution.process_index,
        process_count=distribution.process_count,
    )


def _logger(*, quiet: bool) -> Callable[[str], None]:
    return _silent if quiet or not is_first_process() else print


def _silent(line: str) -> None:
    """Keeps a line to itself."""
