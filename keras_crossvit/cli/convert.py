"""`keras-crossvit convert`: a checkpoint from one format into another."""

from __future__ import annotations

import argparse

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.model_paths import CHECKPOINT_SUFFIXES, WRITTEN_SUFFIXES, suffix_of
from keras_crossvit.models.variants import get_variant, list_models

HELP = "Convert a checkpoint between timm's, the authors', PyTorch's and Keras' formats, by suffix."
IMPORTS = ("keras",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument(
        "source",
        metavar="IN",
        help=f"file that ends in one of {', '.join(CHECKPOINT_SUFFIXES)}; with --from-hub a model's name",
    )
    parser.add_argument(
        "target", metavar="OUT", help=f"file to write, which ends in one of {', '.join(WRITTEN_SUFFIXES)}"
    )
    parser.add_argument(
        "--from-hub",
        action="store_true",
        help=f"fetch the official weights of the model IN from the Hugging Face Hub: {', '.join(list_models())}",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="published model that IN belongs to, for files that do not describe their own (timm's, the authors', "
        ".weights.h5)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Converts, and prints what was written."""
    from keras_crossvit.checkpoints import fetch_imagenet_weights, save_checkpoint
    from keras_crossvit.models.loading import load_model

    suffix_of(arguments.target, WRITTEN_SUFFIXES)  # before a download, an unusable name
    if arguments.from_hub:
        if arguments.model is not None:
            raise InvalidValueError("--model is for a file; with --from-hub the first argument is the model's name.")
        source, variant = fetch_imagenet_weights(get_variant(arguments.source).timm_name), arguments.source
    else:
        source, variant = arguments.source, arguments.model
    model = load_model(source, variant=variant)
    save_checkpoint(model, arguments.target)
    class_names = f"{model.config.num_classes} classes" if model.config.num_classes else "no head"
    print(f"{arguments.target}: {model.name}, {model.count_params():,} parameters, {class_names}.")
