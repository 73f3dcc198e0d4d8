"""`keras-crossvit compare`."""

from __future__ import annotations

import argparse

from keras_crossvit._internal.user_text import one_line
from keras_crossvit.cli.options import add_reading

HELP = "Export a model to several formats, measure every file on your own images, and recommend one."
EXAMPLES = (
    "runs/pets --data pets --output comparison",
    "pets.keras --data pets --formats litert pets_int8.tflite --output comparison",
)
IMPORTS = ("tensorflow", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", help="model file such as .keras, or run folder")
    parser.add_argument(
        "--data", required=True, metavar="FOLDER", help="folder of labelled images; if it has val/, only that is used"
    )
    parser.add_argument(
        "--formats",
        nargs="+",
        metavar="FORMAT",
        help="exports to compare, such as litert, litert-dynamic-int8 or openvino-float16, or files that are already "
        "exported (default: every format in every precision)",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="comparison",
        help="folder for the exported files, the table and the chart, from which the same command resumes (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--max-loss",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="points of top-1 accuracy that a recommended file may lose (default: %(default)s)",
    )
    add_reading(parser)
    parser.add_argument(
        "--crop-fraction", type=float, help="fraction of the shorter side to keep (default: as published)"
    )
    parser.add_argument(
        "--validation-split", type=float, help="use the validation split of training with the same fraction"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of that split (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="threads of every runtime (default: number of processors)")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command and prints the table."""
    from keras_crossvit.comparing import compare

    try:
        comparison = compare(
            arguments.model,
            arguments.data,
            formats=arguments.formats,
            output=arguments.output,
            max_loss=arguments.max_loss,
            max_unreadable=arguments.max_unreadable,
            follow_links=arguments.follow_links,
            crop_fraction=arguments.crop_fraction,
            validation_split=arguments.validation_split,
            seed=arguments.seed,
            threads=arguments.threads,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("run the same command to resume") from None
    print(comparison)
    print(f"\nFiles, table and chart are in '{one_line(arguments.output)}'.")
