"""`keras-crossvit demo`."""

from __future__ import annotations

import argparse
import shlex

HELP = "Write a page on which people try a model in their browser, for any static server."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "model", help=".tflite file of keras-crossvit export, a model's file such as a .keras, or a run's folder"
    )
    parser.add_argument("out", help="folder to write")
    parser.add_argument(
        "--litertjs", metavar="FOLDER", help="where npm pack has left LiteRT.js (default: the cache, or npm's registry)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs the command, and says how to look at the page."""
    from keras_crossvit.demo import write_demo

    folder = write_demo(arguments.model, arguments.out, litertjs=arguments.litertjs)
    print(f"Written to {folder}. To look at it: python -m http.server --directory {shlex.quote(str(folder))}")
