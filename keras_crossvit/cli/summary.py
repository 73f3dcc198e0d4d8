"""`keras-crossvit summary`."""

from __future__ import annotations

import argparse

HELP = "Show a published model's architecture and its layers."
IMPORTS = ("keras",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", help="name of the model, one of `keras-crossvit list`, or timm's name of it")
    parser.add_argument("--num-classes", type=int, default=1000, help="classes to tell apart (default: 1000)")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit.models.variants import variant_config, variant_name

    name = variant_name(arguments.model)
    config = variant_config(name, num_classes=arguments.num_classes)  # answers a wrong name at once

    from keras_crossvit.models.builders import build_crossvit

    model = build_crossvit(config, name=name)
    print(model)
    model.summary()
