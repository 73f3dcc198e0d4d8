"""`keras-crossvit publish`."""

from __future__ import annotations

import argparse

from keras_crossvit.cli.options import require_paths
from keras_crossvit.runtimes.formats import FILE_FORMATS

HELP = "Upload a run's model, exports, model card and browser page to the Hugging Face Hub."
EXAMPLES = ("runs/pets hf://me/pets --license apache-2.0", "runs/pets hf://me/pets --demo --private")
IMPORTS = ("keras",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("folder", metavar="run", help="folder of a training run")
    parser.add_argument("address", help="where to, as hf://USER/NAME; log in with hf auth login, or set HF_TOKEN")
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=FILE_FORMATS,
        default=["litert"],
        help="formats of the exported files (default: litert)",
    )
    parser.add_argument("--demo", action="store_true", help="upload the browser page too, as a static Space")
    parser.add_argument(
        "--license", help="identifier of the license on the hub, such as apache-2.0 (default: none stated)"
    )
    parser.add_argument("--private", action="store_true", help="make a new repository private")


def check(arguments: argparse.Namespace) -> None:
    """Finds a missing run before libraries are imported, which takes seconds."""
    require_paths(arguments.folder)


def run(arguments: argparse.Namespace) -> None:
    """Uploads the run and prints where it is."""
    from keras_crossvit.publishing import publish

    url = publish(
        arguments.folder,
        arguments.address,
        formats=arguments.formats,
        demo=arguments.demo,
        license=arguments.license,
        private=arguments.private,
    )
    print(f"Published at {url}. To load it: keras_crossvit.load_model({arguments.address!r})")
