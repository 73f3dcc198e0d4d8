"""Options that several commands have, under one name in all of them, and JSON on standard output."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError, MissingFileError
from keras_crossvit._internal.user_text import json_text


def add_out(parser: argparse.ArgumentParser, *, help: str, required: bool = True) -> None:  # noqa: A002
    """Adds the argument OUT, which may also be given as `-o` or `--output`."""
    parser.add_argument("out", nargs="?", metavar="OUT", help=help)
    parser.add_argument("-o", "--output", metavar="OUT", help="the same as OUT")
    parser.set_defaults(out_is_required=required)


def out_of(arguments: argparse.Namespace) -> str | None:
    """Returns OUT or `--output`.

    Raises:
        InvalidValueError: both are given, or neither although one is required.
    """
    if arguments.out is not None and arguments.output is not None:
        raise InvalidValueError(f"OUT '{arguments.out}' and --output '{arguments.output}' are the same; give one.")
    if arguments.out is None and arguments.output is None and arguments.out_is_required:
        raise InvalidValueError("OUT is missing; name what to write.")
    return arguments.output if arguments.out is None else arguments.out


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Adds which files of a dataset may be unreadable or links."""
    parser.add_argument(
        "--max-unreadable", type=int, default=0, help="number of unreadable images to accept (default: %(default)s)"
    )
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help="read images outside of the folder that symbolic links in it lead to",
    )


def require_paths(*paths: str | None) -> None:
    """Raises MissingFileError for a path that does not exist; None and names of TensorFlow Datasets are left out."""
    for path in paths:
        if path is not None and not path.startswith("tfds:") and not Path(path).exists():
            raise MissingFileError(f"There is no file or folder '{path}'; check the path.")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON, and everything else to standard error")


@contextlib.contextmanager
def only_json_on_stdout(arguments: argparse.Namespace) -> Iterator[None]:
    """With `--json`, sends what is printed to standard error meanwhile."""
    with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
        yield


def print_json(value: Any) -> None:
    """Prints a value as JSON of printable characters."""
    print(json_text(value, indent=2))
