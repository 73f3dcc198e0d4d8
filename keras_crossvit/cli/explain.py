"""`keras-crossvit explain`."""

from __future__ import annotations

import argparse
import sys

from keras_crossvit.cli.options import require_paths

HELP = "Show which parts of images speak for a class, at both scales."
EXAMPLES = (
    "runs/pets photos/ --output why",
    "pets.keras photo.jpg --class cat --against dog --output why",
)
IMPORTS = ("tensorflow", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", help="run folder, or a file with a model, such as a .keras file")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="folder for the pictures and a page of all of them: new or empty, or that of the same command before, "
        "which then resumes",
    )
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="class (default: the one that is predicted)")
    parser.add_argument("--against", metavar="NAME", help="class to compare with: why --class rather than this")
    parser.add_argument(
        "--method",
        choices=("auto", "ablation", "relevance", "rollout", "attention", "occlusion"),
        default="auto",
        help="how to explain; all but occlusion take less than five forward passes (default: auto, which is occlusion)",
    )
    parser.add_argument("--crop-fraction", type=float, help="fraction of the shorter side to keep (default: published)")
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help="read files outside of a given folder that symbolic links in it lead to",
    )


def check(arguments: argparse.Namespace) -> None:
    """Finds missing files before libraries are imported, which takes seconds."""
    require_paths(arguments.model)


def run(arguments: argparse.Namespace) -> None:
    """Writes a picture of each image and a page of all; files that cannot be read are reported and skipped."""
    from keras_crossvit._internal.errors import InvalidValueError
    from keras_crossvit.explaining.image_files import explain_files

    if arguments.against is not None and arguments.class_name is None:
        raise InvalidValueError(f"--against {arguments.against} needs --class, the class that it is compared with.")
    try:
        page, explained, unreadable = explain_files(
            arguments.model,
            arguments.images,
            arguments.output,
            classes=[each for each in (arguments.class_name, arguments.against) if each is not None] or None,
            method=arguments.method,
            crop_fraction=arguments.crop_fraction,
            follow_links=arguments.follow_links,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("run the same command to resume") from None
    print(f"Explained {explained} of {explained + unreadable} images: {page}", file=sys.stderr)
    if unreadable:
        raise InvalidValueError(f"{unreadable} images could not be read; see the messages above.")
