"""`keras-crossvit predict`."""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_crossvit.runtimes import Runtime

HELP = "Classify images with a trained or exported model, or on a model server."
_USAGE = "%(prog)s [options] MODEL IMAGE [IMAGE ...]\n       %(prog)s [options] --server URL IMAGE [IMAGE ...]"
_BATCH_SIZE = 8  # for models without a fixed batch size

Predictions = list[tuple[str, str, float]]  # (identifier, name, probability), most probable first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.usage = _USAGE
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="MODEL IMAGE",
        help="a model and images to classify; with --server only images. The model is a .keras, .safetensors, .tflite, "
        ".xml or .onnx file, or the folder of a SavedModel or training run. Images are files, or folders of files",
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        help="classify on this model server, such as http://localhost:8080/v2/models/NAME of keras-crossvit serve or "
        "http://localhost:8501/v1/models/NAME of TensorFlow Serving",
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, help="seconds to wait for the server (default: %(default)g)"
    )
    parser.add_argument(
        "--top", type=int, default=5, help="number of classes to print per image (default: %(default)s)"
    )
    parser.add_argument(
        "--format", choices=sorted(_PRINTERS), default="table", help="output format (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, help="threads of the runtime (default: number of processors)")


def run(arguments: argparse.Namespace) -> None:
    """Classifies the images and prints their classes; files that cannot be read are reported and skipped."""
    from keras_crossvit._internal.checks import require_integer
    from keras_crossvit._internal.errors import InvalidValueError
    from keras_crossvit._internal.files import printable, shown_name

    require_integer("top", arguments.top, minimum=1)
    if arguments.server is not None:
        model, images = arguments.server, arguments.inputs
    else:
        model, *images = arguments.inputs
    if not images:
        raise InvalidValueError(f"There are no images to classify with '{model}'; pass image files or folders.")
    files = list(_files(images))
    if not files:
        raise InvalidValueError(f"There are no files in {', '.join(map(repr, images))}; pass image files or folders.")
    unreadable: list[str] = []
    if arguments.server is not None:
        predictions = _classify_on_server(arguments, files, unreadable)
    else:
        from keras_crossvit.runtimes import load_runtime

        predictions = _classify(
            load_runtime(model, threads=arguments.threads, quiet=True), files, arguments.top, unreadable
        )
    _PRINTERS[arguments.format]((printable(path), best) for path, best in predictions)
    classified = len(files) - len(unreadable)
    print(f"Classified {classified} of {len(files)} images with {shown_name(model, sys.maxsize)}.", file=sys.stderr)
    if unreadable:
        raise InvalidValueError(f"{len(unreadable)} of {len(files)} images could not be read; see the messages above.")


def _files(paths: Iterable[str]) -> Iterator[str]:
    """Yields the files, and the files below each folder in alphabetical order, without hidden ones."""
    for path in paths:
        if not Path(path).is_dir():
            yield path
            continue
        for parent, folders, names in os.walk(path):
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            yield from (str(Path(parent, name)) for name in sorted(names) if not name.startswith("."))


def _classify_on_server(
    arguments: argparse.Namespace, paths: Sequence[str], unreadable: list[str]
) -> Iterator[tuple[str, Predictions]]:
    from keras_crossvit.serving import classify_files_on_server

    for path, answer in classify_files_on_server(arguments.server, paths, timeout=arguments.timeout):
        if isinstance(answer, Exception):
            _skip(str(path), answer, unreadable)
        else:
            yield str(path), [(str(each.class_id), each.name, each.probability) for each in answer[: arguments.top]]


def _classify(
    runtime: Runtime, paths: Sequence[str], top: int, unreadable: list[str]
) -> Iterator[tuple[str, Predictions]]:
    import numpy as np

    from keras_crossvit.preprocessing import decode_predictions, preprocess
    from keras_crossvit.preprocessing.images import read_image
    from keras_crossvit.preprocessing.predictions import imagenet_classes, resolve_class_names

    def read() -> Iterator[tuple[str, Sequence[np.ndarray]]]:
        for path in paths:
            try:
                yield path, preprocess(read_image(path), runtime)
            except (OSError, ValueError) as error:
                _skip(path, error, unreadable)

    class_names, num_classes = runtime.class_names, runtime.config.num_classes
    if class_names is None and num_classes != len(imagenet_classes()):  # None stands for ImageNet and its identifiers
        class_names = tuple(resolve_class_names(num_classes))
    images = read()
    while batch := list(itertools.islice(images, runtime.batch_size or _BATCH_SIZE)):
        names, inputs = zip(*batch, strict=True)
        probabilities = runtime.probabilities(*(np.concatenate(branch) for branch in zip(*inputs, strict=True)))
        yield from zip(names, decode_predictions(probabilities, top=top, class_names=class_names), strict=True)


def _skip(path: str, error: Exception, unreadable: list[str]) -> None:
    from keras_crossvit._internal.files import shown_name

    print(f"keras-crossvit predict: {shown_name(str(error), sys.maxsize)}", file=sys.stderr)
    unreadable.append(path)


def _print_table(predictions: Iterable[tuple[str, Predictions]]) -> None:
    from keras_crossvit._internal.files import shown_name

    for path, best in predictions:
        for rank, (_, name, probability) in enumerate(best):
            file, name = (shown_name(each, sys.maxsize) for each in ("" if rank else path, name))
            print(f"{file:40} {name:24} {probability:7.2%}", flush=True)


def _print_json_lines(predictions: Iterable[tuple[str, Predictions]]) -> None:
    keys = ("identifier", "name", "probability")
    for path, best in predictions:
        classes = [dict(zip(keys, each, strict=True)) for each in best]
        print(json.dumps({"file": path, "predictions": classes}, ensure_ascii=False), flush=True)


def _print_csv(predictions: Iterable[tuple[str, Predictions]]) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("file", "rank", "identifier", "name", "probability"))
    for path, best in predictions:
        table.writerows((path, rank, *each) for rank, each in enumerate(best, start=1))


_PRINTERS = {"table": _print_table, "jsonl": _print_json_lines, "csv": _print_csv}
