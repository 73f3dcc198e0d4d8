"""Builds, compiles and fits the model of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_crossvit._internal.errors import InvalidTypeError, InvalidValueError
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.pipeline import evaluation_batches, training_batches
from keras_crossvit.pipeline.batches import images_of_batch
from keras_crossvit.training.callbacks import BestModel, FiniteLoss, MetricsTable, Progress, save_without_optimizer
from keras_crossvit.training.distillation import Distiller
from keras_crossvit.training.distributed import Distribution
from keras_crossvit.training.optimization import EvaluateEMA, add_sample_weights, compile_for_recipe
from keras_crossvit.training.plan import Plan
from keras_crossvit.training.resume import Interval, ResumableState, fit_resumable
from keras_crossvit.training.run_folder import RunFolder


def compiled_model(plan: Plan, distribution: Distribution) -> tuple[keras.Model, CrossViT]:
    """Returns the compiled model, and the CrossViT in it: with a teacher the first is a Distiller."""
    with distribution.scope():
        trained = plan.build_model(copy=distribution.mode is not None)
        trained.calibration = None  # of the weights that the run starts from
        fitted = trained
        if plan.teacher is not None:
            fitted = Distiller(trained, keras.saving.load_model(plan.teacher, compile=False))
        compile_for_recipe(
            fitted, plan.recipe, steps_per_epoch=plan.steps_per_epoch, trained=trained, jit_compile=plan.jit_compile
        )
    return fitted, trained


_SET_THE_RATE = "sets the learning rate, which follows the recipe's schedule; change the recipe's learning_rate instead"
_REFUSED_CALLBACKS = {
    keras.callbacks.BackupAndRestore: "saves and restores the run, which is resumed anyway",
    keras.callbacks.LearningRateScheduler: _SET_THE_RATE,
    keras.callbacks.ReduceLROnPlateau: _SET_THE_RATE,
    keras.callbacks.SwapEMAWeights: "swaps in the EMA of the weights, which a recipe with ema_momentum does",
}


def require_callbacks(callbacks: Sequence[Any]) -> None:
    """Raises an error unless these are callbacks that a run can have."""
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise InvalidTypeError(
                f"Expected Keras callbacks, got {type(callback).__name__}; pass a list of keras.callbacks.Callback."
            )
        for kind, reason in _REFUSED_CALLBACKS.items():
            if isinstance(callback, kind):
                raise InvalidValueError(f"{type(callback).__name__} {reason}. Leave it out.")


def fit_plan(
    fitted: keras.Model,
    trained: CrossViT,
    plan: Plan,
    folder: RunFolder,
    distribution: Distribution,
    interval: Interval,
    *,
    users_callbacks: Sequence[keras.callbacks.Callback] = (),
    show_progress: bool,
) -> list[dict[str, float]]:
    """Trains the models of `compiled_model`, from the last saved state if there is one.

    Returns:
        The metrics of every epoch. The best and the last model are in the folder.
    """
    recipe = plan.recipe
    processes: dict[str, Any] = {
        "process_index": distribution.process_index,
        "process_count": distribution.process_count,
    }

    def batches(epoch: int, skip: int) -> Any:
        dataset = training_batches(
            plan.dataset, plan.config, recipe.augmentation, recipe.micro_batch_size,
            seed=plan.seed, epoch=epoch, skip_batches=skip, **processes,
        )  # fmt: skip
        return add_sample_weights(dataset, plan.class_weights)

    def images_of(epoch: int, batch: int) -> list[str]:
        return images_of_batch(
            plan.dataset.training, recipe.micro_batch_size,
            repeats=recipe.augmentation.repeats, seed=plan.seed, epoch=epoch, batch=batch,
        )  # fmt: skip

    validation_data, monitor, mode = None, "loss", "min"
    if plan.dataset.validation is not None:
        monitor, mode = ("val_auc_pr" if recipe.loss == "binary" else "val_accuracy"), "max"
        whole_batches = distribution.mode is not None  # devices divide only whole batches
        validation_data = evaluation_batches(
            plan.dataset, plan.config, recipe.micro_batch_size, whole_batches=whole_batches, **processes
        )
    resume = ResumableState(folder.states, interval=interval, settings_sha256=folder.settings_sha256)
    resume.states.guard = folder.lock.require_held
    progress = Progress(plan, resume, log=folder.log, show_bar=show_progress)
    table = MetricsTable(folder.metrics, folder.tensorboard, progress)
    averages = None if recipe.ema_momentum is None else EvaluateEMA()
    activation = recipe.classifier_activation
    best = BestModel(
        folder.best, trained, monitor=monitor, mode=mode, classifier_activation=activation, averages=averages
    )
    callbacks: list[keras.callbacks.Callback] = [FiniteLoss(resume, images_of, folder.log), progress, table, best]
    if averages is not None:
        callbacks.append(averages)
    if recipe.patience is not None:
        callbacks.append(keras.callbacks.EarlyStopping(monitor, mode=mode, patience=recipe.patience))
    callbacks += users_callbacks
    try:
        fit_resumable(
            fitted, batches, epochs=recipe.epochs, resume=resume, validation_data=validation_data, callbacks=callbacks
        )
    finally:
        progress.close()
    save_without_optimizer(trained, folder.last, activation)
    return table.rows
