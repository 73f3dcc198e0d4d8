"""`keras-crossvit summary`."""

from __future__ import annotations

import argparse

HELP = "Show the architecture and the layers of a published model."
IMPORTS = ("keras",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", help="name of the model, as `keras-crossvit list` or timm spells it")
    parser.add_argument("--num-classes", type=int, default=1000, help="number of classes (default: %(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit.models.builders import build_crossvit
    from keras_crossvit.models.variants import variant_config, variant_name

    name = variant_name(arguments.model)
    model = build_crossvit(variant_config(name, num_classes=arguments.num_classes), name=name)
    print(model)
    model.summary()
