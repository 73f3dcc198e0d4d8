"""`keras-crossvit convert`."""

from __future__ import annotations

import argparse

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.model_paths import CHECKPOINT_SUFFIXES, WRITTEN_SUFFIXES, suffix_of

HELP = "Convert a checkpoint between the formats of timm, the authors, PyTorch and Keras."
IMPORTS = ("keras",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "source", metavar="IN", help=f"file to read ({', '.join(CHECKPOINT_SUFFIXES)}), or a model with --from-hub"
    )
    parser.add_argument("target", metavar="OUT", help=f"file to write ({', '.join(WRITTEN_SUFFIXES)})")
    parser.add_argument(
        "--from-hub",
        action="store_true",
        help="download the published weights of the model IN from the Hugging Face Hub",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="model that IN belongs to, if the file does not describe it (timm's and the authors' files, .weights.h5)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit.checkpoints import fetch_imagenet_weights, save_checkpoint
    from keras_crossvit.models.loading import load_model
    from keras_crossvit.models.variants import get_variant

    suffix_of(arguments.target, WRITTEN_SUFFIXES)  # a wrong suffix is told before a download
    if arguments.from_hub:
        if arguments.model is not None:
            raise InvalidValueError(f"--model {arguments.model} is for a file; with --from-hub IN is the model's name.")
        source, variant = fetch_imagenet_weights(get_variant(arguments.source).timm_name), arguments.source
    else:
        source, variant = arguments.source, arguments.model
    model = load_model(source, variant=variant)
    save_checkpoint(model, arguments.target)
    head = f"{model.config.num_classes} classes" if model.config.num_classes else "no head"
    print(f"{arguments.target}: {model.name}, {model.count_params():,} parameters, {head}.")
