"""`keras-crossvit convert`."""

from __future__ import annotations

import argparse

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.model_paths import CHECKPOINT_SUFFIXES, WRITTEN_SUFFIXES, suffix_of
from keras_crossvit._internal.user_text import one_line
from keras_crossvit.cli.options import add_out, out_of, require_paths

HELP = "Convert a checkpoint between the formats of timm, the authors, PyTorch and Keras."
EXAMPLES = ("model.pth pets.keras --model crossvit_9_dagger", "--from-hub crossvit_9_dagger imagenet.safetensors")
IMPORTS = ("keras",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "source", metavar="IN", help=f"file to read ({', '.join(CHECKPOINT_SUFFIXES)}), or a model with --from-hub"
    )
    add_out(parser, help=f"file to write ({', '.join(WRITTEN_SUFFIXES)})")
    parser.add_argument(
        "--from-hub",
        action="store_true",
        help="download the published weights of the model IN from the Hugging Face Hub",
    )
    parser.add_argument(
        "-m",
        "--model",
        metavar="NAME",
        help="model that IN belongs to, if the file does not describe it (timm's and the authors' files, .weights.h5)",
    )


def check(arguments: argparse.Namespace) -> None:
    """Finds missing files before libraries are imported, which takes seconds."""
    if not arguments.from_hub:
        require_paths(arguments.source)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit.checkpoints import fetch_imagenet_weights, save_checkpoint
    from keras_crossvit.models.loading import load_model
    from keras_crossvit.models.variants import get_variant

    target = str(out_of(arguments))
    suffix_of(target, WRITTEN_SUFFIXES)  # a wrong suffix is told before a download
    if arguments.from_hub:
        if arguments.model is not None:
            raise InvalidValueError(f"--model {arguments.model} is for a file; with --from-hub IN is the model's name.")
        source, variant = fetch_imagenet_weights(get_variant(arguments.source).timm_name), arguments.source
    else:
        source, variant = arguments.source, arguments.model
    model = load_model(source, variant=variant)
    save_checkpoint(model, target)
    head = f"{model.config.num_classes} classes" if model.config.num_classes else "no head"
    print(f"{one_line(target)}: {one_line(model.name)}, {model.count_params():,} parameters, {head}.")
