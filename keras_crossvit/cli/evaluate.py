"""`keras-crossvit evaluate`."""

from __future__ import annotations

import argparse

HELP = "Evaluate a trained or exported model on labelled pictures: accuracy, every class, confusion, calibration."
IMPORTS = ("tensorflow", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", help="folder of a run, a file with a model, or an exported one")
    parser.add_argument("data", help="as train takes it; of a folder with val/ that alone counts")
    parser.add_argument("--output", help="folder for figures and pictures (default: none are written)")
    parser.add_argument("--batch-size", type=int, default=64, help="pictures at once (default: 64)")
    parser.add_argument("--max-unreadable", type=int, default=0, help="pictures that may be unreadable (default: 0)")
    parser.add_argument("--crop-fraction", type=float, help="share of the shorter side to keep (default: the paper's)")
    parser.add_argument("--validation-split", type=float, help="evaluate on what training held out by the same share")
    parser.add_argument("--seed", type=int, default=0, help="of that split (default: 0)")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit.evaluation import evaluate

    evaluation = evaluate(
        arguments.model,
        arguments.data,
        output=arguments.output,
        batch_size=arguments.batch_size,
        max_unreadable=arguments.max_unreadable,
        crop_fraction=arguments.crop_fraction,
        validation_split=arguments.validation_split,
        seed=arguments.seed,
    )
    print(evaluation)
    if arguments.output:
        print(f"\nFigures and pictures in '{arguments.output}'.")
