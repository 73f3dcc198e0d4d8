"""Trains a model on a dataset, into a run folder with the model, its metrics and a report."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_crossvit._internal.errors import InvalidValueError, explain_training_errors
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.log import log_to_stdout, logger
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.training.distributed import disconnect, distributed, without_distribution
from keras_crossvit.training.fit import compiled_model, fit_plan, require_callbacks
from keras_crossvit.training.plan import plan_training
from keras_crossvit.training.probe import fit_probe
from keras_crossvit.training.recipes import Recipe
from keras_crossvit.training.report import TrainingResult, finish_run, record_inputs, require_report_libraries
from keras_crossvit.training.resume import Interval, RunInterrupted
from keras_crossvit.training.run_folder import RunFolder


@known_keywords_only
def train(
    data: Any,
    *,
    model: str | CrossViT = "crossvit_9_dagger",
    recipe: str | PathLike | Recipe = "finetune",
    weights: str | PathLike | None = None,
    validation_split: float | None = None,
    class_names: Sequence[str] | None = None,
    max_unreadable: int = 0,
    follow_links: bool = False,
    class_weights: str | Mapping[str, float] | None = None,
    teacher: str | PathLike | None = None,
    gradient_checkpointing: bool = False,
    jit_compile: bool = False,
    seed: int = 0,
    output: str | PathLike | None = None,
    checkpoint_every: str = "5m",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: bool = True,
    distribute: str | None = None,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> TrainingResult | None:
    """Trains a CrossViT on your images, and writes a folder with the model, metrics, plots and a report.

    A run can be stopped at any moment, by Ctrl-C or `kill -9`. The same call resumes it and reaches bit-identical
    weights on the same machines, devices and versions (see docs/scaling.md).

    Args:
        data: A folder `<class>/...` or `train/<class>/...` and `val/<class>/...`, a table of labels, shards, or a
            `tf.data.Dataset` or a pair of them, such as of `keras.utils.image_dataset_from_directory`; all that
            `keras_crossvit.pipeline.open_dataset` takes.
        model: Name of a published model, or a `CrossViT`. Defaults to "crossvit_9_dagger".
        recipe: A `Recipe`, the name of one, a `.toml` file, or the folder of a run. Defaults to "finetune".
        weights: Initial weights of a published model: "imagenet", a file, a run folder, or "none" for random ones.
            Defaults to None: what the recipe starts from.
        validation_split: Fraction of each class for validation; 0 uses none. Defaults to None: a tenth, unless there is
            a validation split.
        class_names: Class names of a `tf.data.Dataset`. Defaults to None: its own, or those of the `CrossViT`.
        max_unreadable: Number of unreadable images to tolerate. Defaults to 0.
        follow_links: Whether to read images outside of the folder that symbolic links in it lead to. Defaults to False.
        class_weights: Loss weight by class name, or "balanced". Defaults to None.
        teacher: A `.keras` file or run folder of a model to distill. Defaults to None.
        gradient_checkpointing: Whether to save memory by computing activations twice. Defaults to False.
        jit_compile: Whether to compile the training step with XLA. Defaults to False.
        seed: Seed of weights, split, order and augmentation. Defaults to 0.
        output: The run folder. Defaults to None: `runs/<data>-<model>`.
        checkpoint_every: How often to save the state, in addition to the end of every epoch: "30s", "5m", "1h" or
            "200steps". Defaults to "5m".
        callbacks: Keras callbacks, as in `model.fit`, e.g. `ModelCheckpoint`, `EarlyStopping`, `TensorBoard`, or those
            of Weights & Biases and MLflow. One with counters offers `get_state()` and `set_state(state)`, as in
            `StatefulCallback`, to be resumed exactly; one without is named in a warning. On several processes each of
            them calls its own. Defaults to none.
        verbose: Whether to print progress. Defaults to True.
        distribute: "mirrored" or "data-parallel" to use several devices; see docs/scaling.md. Defaults to None: one.
        coordinator: Address of process 0 (host:port), if several processes share the run. Defaults to None.
        num_processes: Number of these processes. Defaults to None.
        process_id: Index of this process. Defaults to None.

    Returns:
        The best model and its results. None in processes other than the first.

    Raises:
        InvalidTypeError: the model or a callback is of another type.
        InvalidValueError: arguments do not fit together, or a callback cannot be combined with the recipe. The message
            says what would.
        OSError: a file cannot be read or written. The last state of the run is intact.
        OperationError: another process uses the folder, the loss is not finite, or TensorFlow fails.
        ProcessLostError: another process of the run was lost. The same call in every process resumes.
        RunInterrupted: Ctrl-C or SIGTERM. The state has been saved.
    """
    require_report_libraries()
    require_callbacks(callbacks)
    interval = Interval.parse(checkpoint_every)
    with contextlib.ExitStack() as stack:
        if verbose:
            stack.enter_context(log_to_stdout())
        distribution = stack.enter_context(
            distributed(distribute, coordinator=coordinator, num_processes=num_processes, process_id=process_id)
        )
        plan = plan_training(
            data,
            model=model,
            recipe=recipe,
            weights=weights,
            validation_split=validation_split,
            class_names=class_names,
            max_unreadable=max_unreadable,
            follow_links=follow_links,
            class_weights=class_weights,
            teacher=teacher,
            gradient_checkpointing=gradient_checkpointing,
            jit_compile=jit_compile,
            seed=seed,
        )
        distribution.check(plan.recipe)
        if plan.recipe.probe and (callbacks or distribution.mode is not None):
            raise InvalidValueError("recipe 'probe' has neither callbacks nor several devices; leave them out.")
        if plan.dataset.validation is None:
            logger.info("There is no validation set, so the model is not evaluated; set validation_split=0.2.")
        if distribute is not None:
            logger.info(f"Training on {distribution.describe()}.")
        folder = RunFolder(output or Path("runs") / f"{Path(plan.data).name}-{plan.name}")
        stack.enter_context(folder)
        stack.enter_context(explain_training_errors())
        if folder.claim(plan.settings(), plan.reading):
            logger.info("Resuming the run in '%s'.", folder.path)
        missing = record_inputs(plan, folder)
        if plan.recipe.probe:
            history, evaluation = fit_probe(plan.build_model(), plan, folder, show_progress=verbose)
            return finish_run(plan, folder, history, missing, evaluation)
        fitted, trained = compiled_model(plan, distribution)
        try:
            history = fit_plan(
                fitted, trained, plan, folder, distribution, interval, users_callbacks=callbacks, show_progress=verbose
            )
        except RunInterrupted:
            disconnect()  # all processes have stopped after the same step
            raise
        disconnect()
        if distribution.process_index > 0:
            return None
        with without_distribution():
            return finish_run(plan, folder, history, missing)
