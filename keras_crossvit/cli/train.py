"""`keras-crossvit train`."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.user_text import one_line
from keras_crossvit.cli.options import add_json, add_reading, only_json_on_stdout, print_json, require_paths

HELP = "Train a model on a dataset: a trained, evaluated, resumable model and a report."
EXAMPLES = ("images", "images --recipe scratch --epochs 100 --output runs/pets")
IMPORTS = ("tensorflow", "keras")
_RECIPE_OPTIONS = ("epochs", "batch_size", "learning_rate", "img_size", "precision", "patience")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "data",
        nargs="?",
        help="folder with <class>/, or with train/<class>/ and maybe val/<class>/ and test/<class>/; labels.csv or "
        "metadata.csv may replace the class folders; a folder of shards written by prepare; or tfds:NAME",
    )
    parser.add_argument("-m", "--model", default="crossvit_9_dagger", help="name of the model (default: %(default)s)")
    parser.add_argument(
        "--recipe",
        default="finetune",
        metavar="NAME|FILE.toml|RUN",
        help="settings of the run: finetune, scratch, transfer, probe, imagenet, imagenet_408, quickstart, a file, or "
        "those of another run (default: %(default)s)",
    )
    parser.add_argument(
        "--print-recipe", action="store_true", help="print the recipe with all changes as TOML, and do not train"
    )
    parser.add_argument(
        "-w",
        "--weights",
        help="imagenet, a checkpoint file, a run folder, or none for random initialization (default: what the recipe "
        "starts from: imagenet for finetune and transfer)",
    )
    parser.add_argument("-o", "--output", help="run folder to write (default: runs/<data>-<model>)")
    parser.add_argument(
        "--validation-split",
        type=float,
        metavar="FRACTION",
        help="fraction of each class for validation, 0 for none (default: 0.1 if the data has no validation split)",
    )
    add_reading(parser)
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights, split, order and augmentation (default: %(default)s)"
    )
    recipe = parser.add_argument_group("replace settings of the recipe")
    recipe.add_argument("-e", "--epochs", type=int, help="number of epochs")
    recipe.add_argument("-b", "--batch-size", type=int, help="images per update")
    recipe.add_argument(
        "--learning-rate", "--lr", type=float, help="peak learning rate, before scaling to the batch size"
    )
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
    add_json(parser)
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


def check(arguments: argparse.Namespace) -> None:
    """Finds missing files before libraries are imported, which takes seconds."""
    if arguments.print_recipe:
        return
    if arguments.data is None:
        raise InvalidValueError("DATA is missing; pass a folder of images, or use --print-recipe.")
    weights = None if arguments.weights in ("imagenet", "none") else arguments.weights
    require_paths(arguments.data, weights, arguments.teacher)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit._internal.malloc import keep_freed_memory
    from keras_crossvit.training import get_recipe, plan_training, recipe_toml, train

    changes = {name: getattr(arguments, name) for name in _RECIPE_OPTIONS if getattr(arguments, name) is not None}
    if "img_size" in changes:
        changes["img_size"] = tuple(changes["img_size"])
    recipe = get_recipe(arguments.recipe, **{**dict(map(_field_and_value, arguments.set)), **changes})
    if arguments.print_recipe:
        print(recipe_toml(recipe), end="")
        return
    keep_freed_memory()
    settings = {
        "model": arguments.model,
        "recipe": recipe,
        "weights": arguments.weights,
        "validation_split": arguments.validation_split,
        "max_unreadable": arguments.max_unreadable,
        "follow_links": arguments.follow_links,
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
        with only_json_on_stdout(arguments):
            plan = plan_training(arguments.data, **settings)
            description = describe_plan(plan, devices)
        if arguments.json:
            print_json(plan.settings())
        else:
            print(description)
        return
    with only_json_on_stdout(arguments):
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
    if arguments.json:
        print_json(
            {
                "folder": str(result.folder),
                "best": str(result.best),
                "report": str(result.report),
                "history": result.history,
                "evaluation": None if result.evaluation is None else result.evaluation.to_dict(),
            }
        )
        return
    if result.evaluation is not None:
        print(result.evaluation)
    folder = shlex.quote(str(result.folder))
    print(f"\nModel   {one_line(result.best)}\nReport  {one_line(result.report)}")
    print(f"TensorBoard: tensorboard --logdir {one_line(folder)}")


def _field_and_value(text: str) -> tuple[str, Any]:
    field, sign, value = text.partition("=")
    if not sign:
        raise InvalidValueError(f"--set {text!r} is not FIELD=VALUE; write for example --set drop_path_rate=0.2.")
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = value  # a word, such as sgd
    return field.replace("-", "_"), tuple(parsed) if isinstance(parsed, list) else parsed
