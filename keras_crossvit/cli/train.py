"""`keras-crossvit train`."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError

HELP = "Train a model on a dataset: a trained, evaluated, resumable model and a report."
IMPORTS = ("tensorflow", "keras")
_RECIPE_OPTIONS = ("epochs", "batch_size", "learning_rate", "img_size", "precision", "patience")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "data",
        help="folder with train/<class>/ and val/<class>/, or with <class>/ and --validation-split; labels.csv may "
        "replace the class folders; a folder of shards written by prepare; or tfds:NAME",
    )
    parser.add_argument("--model", default="crossvit_9_dagger", help="name of the model (default: %(default)s)")
    parser.add_argument(
        "--recipe",
        default="finetune",
        choices=["finetune", "imagenet", "imagenet_408", "quickstart", "transfer"],
        help="settings of the run (default: %(default)s)",
    )
    parser.add_argument(
        "--weights", help="imagenet, a checkpoint file or a run folder (default: random initialization)"
    )
    parser.add_argument("--output", help="run folder to write (default: runs/<data>-<model>)")
    parser.add_argument(
        "--validation-split", type=float, help="fraction of each class for validation, such as 0.1 (default: none)"
    )
    parser.add_argument(
        "--max-unreadable", type=int, default=0, help="number of unreadable images to accept (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights, split, order and augmentation (default: %(default)s)"
    )
    recipe = parser.add_argument_group("replace settings of the recipe")
    recipe.add_argument("--epochs", type=int, help="number of epochs")
    recipe.add_argument("--batch-size", type=int, help="images per update")
    recipe.add_argument("--learning-rate", type=float, help="peak learning rate, before scaling to the batch size")
    recipe.add_argument(
        "--img-size",
        type=int,
        nargs=2,
        metavar=("SMALL_PATCH", "LARGE_PATCH"),
        help="image sizes in pixels, as 240 224",
    )
    recipe.add_argument(
        "--precision", choices=["float32", "mixed_bfloat16", "mixed_float16"], help="Keras dtype policy of the run"
    )
    recipe.add_argument("--patience", type=int, help="epochs without improvement before training stops")
    recipe.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="any field of the recipe or its augmentation"
    )
    further = parser.add_argument_group("training")
    further.add_argument(
        "--class-weights", choices=["balanced"], help="weight the loss so that all classes count alike"
    )
    further.add_argument("--teacher", help=".keras file or run folder of a teacher model for distillation")
    further.add_argument(
        "--gradient-checkpointing", action="store_true", help="recompute blocks in the backward pass to save memory"
    )
    further.add_argument("--jit-compile", action="store_true", help="compile the step with XLA (minutes on a CPU)")
    further.add_argument(
        "--checkpoint-every", default="5m", help="interval between states, such as 30s, 5m, 1h, 200steps (default: 5m)"
    )
    further.add_argument("--dry-run", action="store_true", help="check everything and print the plan without training")
    devices = parser.add_argument_group("several devices or machines (docs/scaling.md)")
    devices.add_argument(
        "--distribute",
        choices=["data-parallel", "mirrored"],
        help="data-parallel (JAX, also several machines) or mirrored (TensorFlow, the devices of this machine)",
    )
    devices.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, the same in every process")
    devices.add_argument("--num-processes", type=int, help="number of processes")
    devices.add_argument("--process-id", type=int, help="number of this process, from 0")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit._internal.malloc import keep_freed_memory
    from keras_crossvit.training import get_recipe, plan_training, train

    keep_freed_memory()
    changes = {name: getattr(arguments, name) for name in _RECIPE_OPTIONS if getattr(arguments, name) is not None}
    if "img_size" in changes:
        changes["img_size"] = tuple(changes["img_size"])
    settings = {
        "model": arguments.model,
        "recipe": get_recipe(arguments.recipe, **changes, **dict(map(_field_and_value, arguments.set))),
        "weights": arguments.weights,
        "validation_split": arguments.validation_split,
        "max_unreadable": arguments.max_unreadable,
        "seed": arguments.seed,
        "class_weights": arguments.class_weights,
        "teacher": arguments.teacher,
        "gradient_checkpointing": arguments.gradient_checkpointing,
        "jit_compile": arguments.jit_compile,
    }
    processes = {name: getattr(arguments, name) for name in ("coordinator", "num_processes", "process_id")}
    if arguments.dry_run:
        from keras_crossvit.training.distributed import plan_distribution
        from keras_crossvit.training.dry_run import describe_plan

        devices = plan_distribution(arguments.distribute, **processes)
        print(describe_plan(plan_training(arguments.data, **settings), devices))
        return
    result = train(
        arguments.data,
        output=arguments.output,
        checkpoint_every=arguments.checkpoint_every,
        distribute=arguments.distribute,
        **processes,
        **settings,
    )
    if result is None:
        return  # only process 0 evaluates and reports
    if result.evaluation is not None:
        print(result.evaluation)
    folder = shlex.quote(str(result.folder))
    print(f"\nModel   {result.best}\nReport  {result.report}\nTensorBoard: tensorboard --logdir {folder}")


def _field_and_value(text: str) -> tuple[str, Any]:
    field, sign, value = text.partition("=")
    if not sign:
        raise InvalidValueError(f"--set {text!r} is not FIELD=VALUE; write for example --set drop_path_rate=0.2.")
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = value  # a word, such as sgd
    return field.replace("-", "_"), tuple(parsed) if isinstance(parsed, list) else parsed
