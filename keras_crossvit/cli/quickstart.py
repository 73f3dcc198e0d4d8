"""`keras-crossvit quickstart`."""

from __future__ import annotations

import argparse

HELP = "Train crossvit_9_dagger on handwritten digits, export it, load it again: a few minutes on two CPU cores."
IMPORTS = ("tensorflow", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--output", default="saved_models", help="folder to write to (default: saved_models)")
    parser.add_argument("--seed", type=int, default=0, help="fixes weights, split and order (default: 0)")
    parser.add_argument("--epochs", type=int, help="rounds through the digits (default: those of the recipe)")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit._internal.malloc import keep_freed_memory
    from keras_crossvit.quickstart import quickstart

    keep_freed_memory()
    quickstart(arguments.output, seed=arguments.seed, epochs=arguments.epochs)
