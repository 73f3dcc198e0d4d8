"""`keras-crossvit quickstart`."""

from __future__ import annotations

import argparse

HELP = "Train crossvit_9_dagger on handwritten digits, evaluate and export it: a few minutes on two CPU cores."
EXAMPLES = ("", "--epochs 3 --output models")
IMPORTS = ("tensorflow", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "-o", "--output", default="saved_models", help="folder of the exported models (default: %(default)s)"
    )
    parser.add_argument("--runs", default="runs", help="folder of the images and the run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation (default: 0)")
    parser.add_argument("-e", "--epochs", type=int, help="number of epochs (default: the recipe's)")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit._internal.malloc import keep_freed_memory
    from keras_crossvit.quickstart import quickstart

    keep_freed_memory()
    quickstart(arguments.output, runs=arguments.runs, seed=arguments.seed, epochs=arguments.epochs)
