"""`keras-crossvit demo`."""

from __future__ import annotations

import argparse
import shlex

HELP = "Write a web page that runs a model in the browser."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "model",
        help=".tflite file with batch size 1, a checkpoint such as a .keras file, or the folder of a training run",
    )
    parser.add_argument("out", help="folder to write; it must not exist")
    parser.add_argument(
        "--litertjs",
        metavar="FOLDER",
        help="folder with the npm packages of LiteRT.js (default: download and cache them)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the page."""
    from keras_crossvit.demo import write_demo

    folder = write_demo(arguments.model, arguments.out, litertjs=arguments.litertjs)
    server = f"python -m http.server --directory {shlex.quote(str(folder))}"
    print(f"Wrote {folder}. To try it, run '{server}' and open http://localhost:8000.")
