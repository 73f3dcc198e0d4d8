"""`keras-crossvit prepare`: check a folder of images, or write it into shards."""

from __future__ import annotations

import argparse

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.user_text import one_line
from keras_crossvit.cli.options import add_out, out_of, require_paths

HELP = "Check every image of a folder, and write the images into shards for training."
EXAMPLES = ("images --check", "images shards --validation-split 0.1")
IMPORTS = ("tensorflow", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "folder", metavar="FOLDER", help="train/<class>/... and val/<class>/..., or <class>/...; shards with --verify"
    )
    add_out(parser, help="folder to write the shards to", required=False)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="only check every image of FOLDER, and write nothing")
    action.add_argument("--verify", action="store_true", help="only compare the shards in FOLDER with their hashes")
    parser.add_argument(
        "--validation-split",
        type=float,
        metavar="FRACTION",
        help="fraction of each class for validation, 0 for none (default: 0.1 if the data has no validation split)",
    )
    parser.add_argument("--seed", type=int, default=0, help="determines validation images and order (default: 0)")
    parser.add_argument(
        "--max-unreadable",
        type=int,
        default=0,
        metavar="FILES",
        help="number of unreadable files to leave out (default: 0)",
    )
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help="read images outside of the folder that symbolic links in it lead to",
    )


def check(arguments: argparse.Namespace) -> None:
    """Finds missing files before libraries are imported, which takes seconds."""
    require_paths(arguments.folder)


def run(arguments: argparse.Namespace) -> None:
    """Checks, verifies or writes."""
    from pathlib import Path

    from keras_crossvit.pipeline import prepare
    from keras_crossvit.pipeline.dataset import survey_folder
    from keras_crossvit.pipeline.shards import verify_shards

    if arguments.verify:
        counts = verify_shards(Path(arguments.folder)).counts()
        listed = ", ".join(f"{count} {name} images" for name, count in counts.items())
        print(f"'{one_line(arguments.folder)}': {listed}")
        print("All shards match their hashes.")
    elif arguments.check:
        survey = survey_folder(arguments.folder, follow_links=arguments.follow_links)
        print(survey)
        survey.require_readable(arguments.max_unreadable)
    elif (output := out_of(arguments)) is None:
        raise InvalidValueError("OUT is missing; name a folder for the shards, or use --check or --verify.")
    else:
        prepare(
            arguments.folder,
            output,
            validation_split=arguments.validation_split,
            seed=arguments.seed,
            max_unreadable=arguments.max_unreadable,
            follow_links=arguments.follow_links,
        )
