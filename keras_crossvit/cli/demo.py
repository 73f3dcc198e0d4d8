"""`keras-crossvit demo`."""

from __future__ import annotations

import argparse
import shlex

from keras_crossvit._internal.user_text import one_line
from keras_crossvit.cli.environment import import_quietly
from keras_crossvit.cli.options import add_out, out_of

HELP = "Write a web page that runs a model in the browser."
EXAMPLES = ("pets.tflite pets_demo", "runs/pets pets_demo --litertjs node_modules")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "model",
        help=".tflite file of one image with batch size 1, a checkpoint such as a .keras file, or the folder of a run",
    )
    add_out(parser, help="folder to write; it must not exist")
    parser.add_argument(
        "--litertjs",
        metavar="FOLDER",
        help="folder with the npm packages of LiteRT.js (default: download and cache them)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the page."""
    if not arguments.model.endswith(".tflite"):  # it is exported first
        import_quietly(("tensorflow", "keras"))
    from keras_crossvit.demo import write_demo

    folder = write_demo(arguments.model, str(out_of(arguments)), litertjs=arguments.litertjs)
    server = f"python -m http.server --directory {shlex.quote(str(folder))}"
    print(f"Wrote {one_line(folder)}. To try it, run '{one_line(server)}' and open http://localhost:8000.")
