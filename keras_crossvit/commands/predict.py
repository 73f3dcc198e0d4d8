"""`keras-crossvit predict`."""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_crossvit.silence import native_notes_silenced

HELP = "Name what pictures show, by a model of one's own or an exported file of it."
_BATCH = 8  # pictures at once through models that take any number

Prediction = list[tuple[str, str, float]]  # (identifier, name, probability) of the most probable classes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "model",
        help="file of the model: .keras, .safetensors of save_checkpoint, or exported: .tflite, .xml, .onnx, or the "
        "folder of a SavedModel",
    )
    parser.add_argument("pictures", nargs="+", help="files of pictures")
    parser.add_argument("--top", type=int, default=5, help="most probable classes to show (default: 5)")
    parser.add_argument("--format", choices=sorted(_PRINTERS), default="table", help="of the output (default: table)")
    parser.add_argument("--threads", type=int, help="threads to compute with (default: all processors)")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command; files that cannot be read are named, and the others go on."""
    from keras_crossvit.runtimes import load_runtime

    with native_notes_silenced():
        runtime = load_runtime(arguments.model, threads=arguments.threads)
    unreadable = []
    inputs = _readable(arguments.pictures, runtime, unreadable)
    _PRINTERS[arguments.format](_predictions(runtime, inputs, arguments.top))
    if unreadable:
        raise ValueError(
            f"{len(unreadable)} of {len(arguments.pictures)} pictures could not be read; see the lines above."
        )


def _readable(paths: Sequence[str], runtime: Any, unreadable: list[str]) -> Iterator[tuple[str, list[np.ndarray]]]:
    from keras_crossvit.data import preprocess
    from keras_crossvit.data.pictures import read_picture

    for path in paths:
        try:
            yield path, preprocess(read_picture(path), runtime)
        except (OSError, ValueError) as error:
            print(f"keras-crossvit predict: {error}", file=sys.stderr)
            unreadable.append(path)


def _predictions(
    runtime: Any, inputs: Iterable[tuple[str, list[np.ndarray]]], top: int
) -> Iterator[tuple[str, Prediction]]:
    from keras_crossvit.data import decode_predictions
    from keras_crossvit.data.predictions import imagenet_classes

    classes = runtime.classes
    if classes is None and runtime.config.num_classes != len(imagenet_classes()):
        classes = [f"class {index}" for index in range(runtime.config.num_classes)]
    for paths, images in _batches(inputs, runtime.batch_size or _BATCH):
        yield from zip(paths, decode_predictions(runtime.probabilities(*images), top=top, classes=classes), strict=True)


def _batches(inputs: Iterable[tuple[str, list[np.ndarray]]], size: int) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Joins single pictures' inputs; the last batch is as large as it comes."""
    inputs = iter(inputs)
    while batch := list(itertools.islice(inputs, size)):
        paths, images = zip(*batch, strict=True)
        yield list(paths), [np.concatenate(branch) for branch in zip(*images, strict=True)]


def _print_table(predictions: Iterable[tuple[str, Prediction]]) -> None:
    for path, best in predictions:
        for rank, (_, name, probability) in enumerate(best):
            print(f"{path if rank == 0 else '':40} {name:24} {probability:7.2%}", flush=True)


def _print_json_lines(predictions: Iterable[tuple[str, Prediction]]) -> None:
    keys = ("identifier", "name", "probability")
    for path, best in predictions:
        classes = [dict(zip(keys, each, strict=True)) for each in best]
        print(json.dumps({"file": path, "predictions": classes}, ensure_ascii=False), flush=True)


def _print_csv(predictions: Iterable[tuple[str, Prediction]]) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("file", "rank", "identifier", "name", "probability"))
    for path, best in predictions:
        table.writerows((path, rank, *each) for rank, each in enumerate(best, start=1))


_PRINTERS = {"table": _print_table, "jsonl": _print_json_lines, "csv": _print_csv}
