"""`keras-crossvit evaluate`."""

from __future__ import annotations

import argparse

HELP = "Evaluate a trained or exported model on labelled images: accuracy per class, confusion, calibration."
IMPORTS = ("tensorflow", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", help="run folder, model file or exported model")
    parser.add_argument("data", help="dataset in any form that train accepts; if it has val/, only that is used")
    parser.add_argument("--output", help="folder for metrics and plots (default: none are written)")
    parser.add_argument("--batch-size", type=int, default=64, help="images per batch (default: %(default)s)")
    parser.add_argument(
        "--max-unreadable", type=int, default=0, help="number of unreadable images to accept (default: %(default)s)"
    )
    parser.add_argument(
        "--crop-fraction", type=float, help="fraction of the shorter side to keep (default: as published)"
    )
    parser.add_argument(
        "--validation-split", type=float, help="evaluate on the validation split of training with the same fraction"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of that split (default: %(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit.evaluation import evaluate

    result = evaluate(
        arguments.model,
        arguments.data,
        output=arguments.output,
        batch_size=arguments.batch_size,
        max_unreadable=arguments.max_unreadable,
        crop_fraction=arguments.crop_fraction,
        validation_split=arguments.validation_split,
        seed=arguments.seed,
    )
    print(result)
    if arguments.output:
        print(f"\nMetrics and plots are in '{arguments.output}'.")
