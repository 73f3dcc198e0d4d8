"""Trains a model on a dataset, into a run folder with the model, its metrics and a report."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import explain_tensorflow_errors
from keras_crossvit._internal.log import log_to_stdout, logger
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.training.distributed import disconnect, distributed, without_distribution
from keras_crossvit.training.fit import compiled_model, fit_plan
from keras_crossvit.training.plan import plan_training
from keras_crossvit.training.recipes import Recipe
from keras_crossvit.training.report import TrainingResult, finish_run, record_inputs, require_report_libraries
from keras_crossvit.training.resume import Interval, RunInterrupted
from keras_crossvit.training.run_folder import RunFolder


def train(
    data: Any,
    *,
    model: str | CrossViT = "crossvit_9_dagger",
    recipe: str | Recipe = "finetune",
    weights: str | PathLike | None = None,
    validation_split: float | None = None,
    class_names: Sequence[str] | None = None,
    max_unreadable: int = 0,
    class_weights: str | Mapping[str, float] | None = None,
    teacher: str | PathLike | None = None,
    gradient_checkpointing: bool = False,
    jit_compile: bool = False,
    seed: int = 0,
    output: str | PathLike | None = None,
    checkpoint_every: str = "5m",
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
        data: A folder `train/<class>/...` and `val/<class>/...`, a folder `<class>/...`, shards, or a pair of
            `tf.data.Dataset`, as `keras_crossvit.pipeline.open_dataset` takes them.
        model: Name of a published model, or a `CrossViT`. Defaults to "crossvit_9_dagger".
        recipe: A `Recipe`, or the name of one. Defaults to "finetune".
        weights: Initial weights of a published model: "imagenet", a file, or a run folder. Defaults to None: random.
        validation_split: Fraction of each class for validation, if there is no folder `val`. Defaults to None.
        class_names: Class names of a `tf.data.Dataset`. Defaults to None.
        max_unreadable: Number of unreadable images to tolerate. Defaults to 0.
        class_weights: Loss weight by class name, or "balanced". Defaults to None.
        teacher: A `.keras` file or run folder of a model to distill. Defaults to None.
        gradient_checkpointing: Whether to save memory by computing activations twice. Defaults to False.
        jit_compile: Whether to compile the training step with XLA. Defaults to False.
        seed: Seed of weights, split, order and augmentation. Defaults to 0.
        output: The run folder. Defaults to None: `runs/<data>-<model>`.
        checkpoint_every: How often to save the state, in addition to the end of every epoch: "30s", "5m", "1h" or
            "200steps". Defaults to "5m".
        verbose: Whether to print progress. Defaults to True.
        distribute: "mirrored" or "data-parallel" to use several devices; see docs/scaling.md. Defaults to None: one.
        coordinator: Address of process 0 (host:port), if several processes share the run. Defaults to None.
        num_processes: Number of these processes. Defaults to None.
        process_id: Index of this process. Defaults to None.

    Returns:
        The best model and its results. None in processes other than the first.

    Raises:
        InvalidValueError: arguments do not fit together. The message says what would.
        OSError: a file cannot be read or written. The last state of the run is intact.
        OperationError: another process uses the folder, the loss is not finite, or TensorFlow fails.
        ProcessLostError: another process of the run was lost. The same call in every process resumes.
        RunInterrupted: Ctrl-C or SIGTERM. The state has been saved.
    """
    require_report_libraries()
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
            class_weights=class_weights,
            teacher=teacher,
            gradient_checkpointing=gradient_checkpointing,
            jit_compile=jit_compile,
            seed=seed,
        )
        distribution.check(plan.recipe)
        if plan.dataset.validation is None:
            logger.info("There is no validation set, so the model is not evaluated; set validation_split=0.1.")
        if distribute is not None:
            logger.info(f"Training on {distribution.describe()}.")
        folder = RunFolder(output or Path("runs") / f"{Path(plan.data).name}-{plan.name}")
        stack.enter_context(folder)
        stack.enter_context(explain_tensorflow_errors())
        if folder.claim(plan.settings()):
            logger.info(f"Resuming the run in '{folder.path}'.")
        fitted, trained = compiled_model(plan, distribution)
        missing = record_inputs(plan, folder)
        try:
            history = fit_plan(fitted, trained, plan, folder, distribution, interval, show_progress=verbose)
        except RunInterrupted:
            disconnect()  # all processes have stopped after the same step
            raise
        disconnect()
        if distribution.process_index > 0:
            return None
        with without_distribution():
            return finish_run(plan, folder, history, missing)
