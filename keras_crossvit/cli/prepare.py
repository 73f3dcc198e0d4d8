"""`keras-crossvit prepare`: check a folder of images, or write it into shards."""

from __future__ import annotations

import argparse

from keras_crossvit._internal.errors import InvalidValueError

HELP = "Check every image of a folder, and write the images into shards for training."
IMPORTS = ("tensorflow", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "folder", metavar="FOLDER", help="train/<class>/... and val/<class>/..., or <class>/...; shards with --verify"
    )
    parser.add_argument("output", metavar="OUT", nargs="?", help="folder to write the shards to")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="only check every image of FOLDER, and write nothing")
    action.add_argument("--verify", action="store_true", help="only compare the shards in FOLDER with their hashes")
    parser.add_argument(
        "--validation-split",
        type=float,
        metavar="FRACTION",
        help="fraction of each class to use for validation, if there is no folder val (default: none)",
    )
    parser.add_argument("--seed", type=int, default=0, help="determines validation images and order (default: 0)")
    parser.add_argument(
        "--max-unreadable",
        type=int,
        default=0,
        metavar="FILES",
        help="number of unreadable files to leave out (default: 0)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Checks, verifies or writes."""
    from pathlib import Path

    from keras_crossvit.pipeline import prepare
    from keras_crossvit.pipeline.dataset import survey_folder
    from keras_crossvit.pipeline.shards import verify_shards

    if arguments.verify:
        counts = verify_shards(Path(arguments.folder)).counts()
        print(f"'{arguments.folder}': " + ", ".join(f"{count} {name} images" for name, count in counts.items()))
        print("All shards match their hashes.")
    elif arguments.check:
        survey = survey_folder(arguments.folder)
        print(survey)
        survey.require_readable(arguments.max_unreadable)
    elif arguments.output is None:
        raise InvalidValueError("OUT is missing; name a folder for the shards, or use --check or --verify.")
    else:
        prepare(
            arguments.folder,
            arguments.output,
            validation_split=arguments.validation_split,
            seed=arguments.seed,
            max_unreadable=arguments.max_unreadable,
        )
