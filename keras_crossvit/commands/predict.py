"""`keras-crossvit predict`."""

from __future__ import annotations

import argparse
import sys

HELP = "Name what pictures show, by a model of one's own or a published one with its weights in a file."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", help="file of the model: .keras, or .safetensors of save_checkpoint")
    parser.add_argument("pictures", nargs="+", help="files of pictures")
    parser.add_argument("--top", type=int, default=5, help="most probable classes to show (default: 5)")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command: a line per picture and class; files that cannot be read are named, and the others go on."""
    import keras

    from keras_crossvit.data import decode_predictions, preprocess
    from keras_crossvit.data.pictures import read_picture
    from keras_crossvit.restored import create_model_from

    model = create_model_from(arguments.model)
    unreadable = 0
    for path in arguments.pictures:
        try:
            inputs = preprocess(read_picture(path), model)
        except (OSError, ValueError) as error:
            print(f"keras-crossvit predict: {error}", file=sys.stderr)
            unreadable += 1
            continue
        outputs = model(inputs, training=False)
        probabilities = keras.ops.softmax(outputs) if model.classifier_activation is None else outputs
        (best,) = decode_predictions(
            keras.ops.convert_to_numpy(probabilities), top=arguments.top, classes=model.classes
        )
        for rank, (_, name, probability) in enumerate(best):
            print(f"{path if rank == 0 else '':40} {name:24} {probability:7.2%}", flush=True)
    if unreadable:
        raise ValueError(f"{unreadable} of {len(arguments.pictures)} pictures could not be read; see the lines above.")
