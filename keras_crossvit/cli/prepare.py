"""`keras-crossvit prepare`: look into a collection of pictures, and write it into shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_crossvit._internal.errors import InvalidValueError, MissingFileError

HELP = "Look into every picture of a folder, and write them into shards for training."
IMPORTS = ("tensorflow", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("folder", metavar="FOLDER", help="train/<class>/... and val/<class>/..., or <class>/...")
    parser.add_argument("output", metavar="OUT", nargs="?", help="folder to write the shards to")
    parser.add_argument(
        "--check", action="store_true", help="only look; of a folder of shards, compare them with their hashes"
    )
    parser.add_argument(
        "--validation-split", type=float, metavar="SHARE", help="share of each class to hold out, without a folder val"
    )
    parser.add_argument("--seed", type=int, default=0, help="fixes split and order (default: 0)")
    parser.add_argument(
        "--max-unreadable",
        type=int,
        default=0,
        metavar="FILES",
        help="go on without up to this many files that cannot be read (default: 0)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Checks or writes, and prints what was found and done."""
    from keras_crossvit.pipeline.dataset import survey_folder
    from keras_crossvit.pipeline.prepare import prepare
    from keras_crossvit.pipeline.shards import MANIFEST, check_hashes

    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise MissingFileError(f"'{folder}' is no folder; give one that holds a folder of pictures for each class.")
    if arguments.check and (folder / MANIFEST).is_file():
        counts = check_hashes(folder).counts()
        print(
            f"'{folder}': all shards are as written; " + ", ".join(f"{count} {name}" for name, count in counts.items())
        )
    elif arguments.check:
        survey = survey_folder(folder, report=print)
        print(survey)
        survey.require_readable(arguments.max_unreadable)
    elif arguments.output is None:
        raise InvalidValueError("OUT is missing; name a folder for the shards, or give --check to look only.")
    else:
        prepare(
            folder,
            arguments.output,
            validation_split=arguments.validation_split,
            seed=arguments.seed,
            max_unreadable=arguments.max_unreadable,
        )
