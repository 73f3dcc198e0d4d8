"""`keras-crossvit train`."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError

HELP = "Train a model on your own pictures: from a folder to a trained, evaluated, resumable model and a report."
IMPORTS = ("tensorflow", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "data",
        help="folder with train/<class>/... and val/<class>/..., or with <class>/... and --validation-split, or with "
        "labels.csv in place of classes; a folder of prepare's shards; or tfds:NAME",
    )
    parser.add_argument("--model", default="crossvit_9_dagger", help="published model (default: crossvit_9_dagger)")
    parser.add_argument(
        "--recipe", default="finetune", help="finetune (the default), imagenet, imagenet_408, transfer or quickstart"
    )
    parser.add_argument(
        "--weights", help="what to start from: imagenet, a file or a run's folder (default: fresh weights)"
    )
    parser.add_argument("--output", help="folder of the run (default: runs/<data>-<model>)")
    parser.add_argument("--validation-split", type=float, help="share of each class to hold out, such as 0.1")
    parser.add_argument("--max-unreadable", type=int, default=0, help="pictures that may be unreadable (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="fixes weights, split, order, augmentation (default: 0)")
    overrides = parser.add_argument_group("in place of the recipe's")
    overrides.add_argument("--epochs", type=int, help="rounds through the pictures")
    overrides.add_argument("--batch-size", type=int, help="pictures per update")
    overrides.add_argument("--learning-rate", type=float, help="peak, before it is scaled to the batch")
    overrides.add_argument("--img-size", type=int, nargs=2, metavar=("SMALL_PATCH", "LARGE_PATCH"), help="image sides")
    overrides.add_argument("--precision", help="float32, mixed_bfloat16 or mixed_float16")
    overrides.add_argument("--patience", type=int, help="epochs without a better result before training stops")
    overrides.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="any field of recipe or augmentation"
    )
    further = parser.add_argument_group("further")
    further.add_argument("--class-weights", choices=["balanced"], help="let all classes count alike in the loss")
    further.add_argument("--teacher", help=".keras file or run's folder of a model to learn from as well")
    further.add_argument(
        "--gradient-checkpointing", action="store_true", help="less memory for more time: compute blocks again"
    )
    further.add_argument("--jit-compile", action="store_true", help="compile the step by XLA; minutes on a CPU")
    further.add_argument("--checkpoint-every", default="5m", help="30s, 5m, 1h or 200steps (default: 5m)")
    several = parser.add_argument_group("several devices or machines (docs/scaling.md)")
    several.add_argument(
        "--distribute",
        help="mirrored (this machine's devices, TensorFlow) or data-parallel (JAX, also several machines)",
    )
    several.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, the same in every process")
    several.add_argument("--num-processes", type=int, help="how many processes there are")
    several.add_argument("--process-id", type=int, help="which of them this is, from 0")
    further.add_argument("--dry-run", action="store_true", help="say what would happen, and train nothing")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit._internal.malloc import keep_freed_memory
    from keras_crossvit.training import get_recipe, plan_training, train

    keep_freed_memory()
    fields = ("epochs", "batch_size", "learning_rate", "img_size", "precision", "patience")
    given = {field: getattr(arguments, field) for field in fields if getattr(arguments, field) is not None}
    if "img_size" in given:
        given["img_size"] = tuple(given["img_size"])
    settings = {
        "model": arguments.model,
        "recipe": get_recipe(arguments.recipe, **given, **dict(map(_field_and_value, arguments.set))),
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
        return  # process 0 evaluates and reports
    if result.evaluation is not None:
        print(result.evaluation)
    folder = shlex.quote(str(result.folder))
    print(f"\nModel   {result.best}\nReport  {result.report}\nTensorBoard: tensorboard --logdir {folder}")


def _field_and_value(text: str) -> tuple[str, Any]:
    field, sign, value = text.partition("=")
    if not sign:
        raise InvalidValueError(f"--set {text!r} is not FIELD=VALUE; write it as in --set drop_path_rate=0.2.")
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError:
        parsed = value  # a word, such as sgd
    return field.replace("-", "_"), tuple(parsed) if isinstance(parsed, list) else parsed
