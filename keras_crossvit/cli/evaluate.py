"""`keras-crossvit evaluate`."""

from __future__ import annotations

import argparse

from keras_crossvit._internal.user_text import one_line
from keras_crossvit.cli.options import add_json, only_json_on_stdout, print_json, require_paths

HELP = "Evaluate a trained or exported model on labelled images: accuracy per class, confusion, calibration."
EXAMPLES = ("runs/pets", "pets.tflite other_images --output figures")
IMPORTS = ("tensorflow", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", help="run folder, model file or exported model")
    parser.add_argument(
        "data",
        nargs="?",
        help="dataset in any form that train accepts; if it has val/ or else test/, only that is used (default: the "
        "run's own validation and test images)",
    )
    parser.add_argument(
        "--split", choices=("validation", "test", "all"), help="images to evaluate on (default: as above, or all)"
    )
    parser.add_argument("-o", "--output", help="folder for metrics and plots (default: none are written)")
    parser.add_argument("-b", "--batch-size", type=int, default=64, help="images per batch (default: %(default)s)")
    parser.add_argument(
        "--max-unreadable", type=int, help="number of unreadable images to accept (default: as in the run, or 0)"
    )
    parser.add_argument(
        "--follow-links",
        action="store_true",
        default=None,
        help="read images outside of the folder that symbolic links in it lead to (default: as in the run, or not)",
    )
    parser.add_argument(
        "--crop-fraction", type=float, help="fraction of the shorter side to keep (default: as published)"
    )
    parser.add_argument(
        "--validation-split",
        type=float,
        metavar="FRACTION",
        help="evaluate on the validation split of training with the same fraction (default: that of the run)",
    )
    parser.add_argument("--seed", type=int, help="seed of that split (default: that of the run, or 0)")
    parser.add_argument(
        "--allow-any-operation",
        action="store_true",
        help="load a SavedModel with operations that this package does not export; only from those whom you trust",
    )
    add_json(parser)


def check(arguments: argparse.Namespace) -> None:
    """Finds missing files before libraries are imported, which takes seconds."""
    require_paths(arguments.model, arguments.data)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit.evaluation import evaluate_splits

    with only_json_on_stdout(arguments):
        results = evaluate_splits(
            arguments.model,
            arguments.data,
            split=arguments.split,
            output=arguments.output,
            batch_size=arguments.batch_size,
            max_unreadable=arguments.max_unreadable,
            follow_links=arguments.follow_links,
            crop_fraction=arguments.crop_fraction,
            validation_split=arguments.validation_split,
            seed=arguments.seed,
            allow_any_operation=arguments.allow_any_operation,
        )
    if arguments.json:
        print_json({split: result.to_dict() for split, result in results.items()})
        return
    for split, result in results.items():
        print(f"\n{split}: {result}")
    if arguments.output:
        print(f"\nMetrics and plots are in '{one_line(arguments.output)}'.")
