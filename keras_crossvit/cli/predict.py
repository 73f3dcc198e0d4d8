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
from typing import Any

import numpy as np

from keras_crossvit._internal.checks import require_integer
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.files import printable
from keras_crossvit.preprocessing.predictions import TOP

HELP = "Name what pictures show, by a model of one's own or an exported file of it."
_BATCH = 8  # pictures at once through models that take any number

Prediction = list[tuple[str, str, float]]  # (identifier, name, probability) of the most probable classes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "model",
        help="file of the model: .keras, .safetensors of save_checkpoint, or exported: .tflite, .xml, .onnx, or the "
        "folder of a SavedModel or of a run",
    )
    parser.add_argument("images", nargs="*", help="files of pictures, or folders of them")
    parser.add_argument(
        "--server",
        metavar="URL",
        help="ask a model server in place of a model, such as http://HOST:8501/v1/models/NAME or grpc://HOST:8500/NAME "
        "(TensorFlow Serving), or http://HOST:8080/v2/models/NAME or grpc://HOST:8081/v2/models/NAME (KServe v2); all "
        "other arguments are pictures",
    )
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for a server (default: 30)")
    parser.add_argument("--top", type=int, default=TOP, help="most probable classes to show (default: %(default)s)")
    parser.add_argument("--format", choices=sorted(_PRINTERS), default="table", help="of the output (default: table)")
    parser.add_argument("--threads", type=int, help="threads to compute with (default: all processors)")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command; files that cannot be read are named, and the others go on."""
    require_integer("top", arguments.top, minimum=1)
    unreadable: list[str] = []
    taken = itertools.count()
    if arguments.server is not None:
        images = [arguments.model, *arguments.images]
        predictions = _answers(arguments, list(_files(images, taken)), unreadable)
    else:
        from keras_crossvit.runtimes import load_runtime

        images = arguments.images
        if not images:
            raise InvalidValueError(
                f"There is no picture for '{arguments.model}' to name; give the files of one or more."
            )
        runtime = load_runtime(arguments.model, threads=arguments.threads, quiet=True)
        predictions = _predictions(runtime, _readable(_files(images, taken), runtime, unreadable), arguments.top)
    _PRINTERS[arguments.format]((printable(path), best) for path, best in predictions)
    count = next(taken)
    if unreadable:
        raise InvalidValueError(f"{len(unreadable)} of {count} pictures could not be read; see the lines above.")
    if not count:
        raise InvalidValueError(
            f"There is no file in {', '.join(map(repr, images))}; give pictures, or folders of them."
        )


def _files(paths: Sequence[str], taken: Iterator[int]) -> Iterator[str]:
    """Files as they are given, and those below each folder in order but for hidden ones; `taken` counts them."""
    for path in paths:
        if not Path(path).is_dir():
            next(taken)
            yield path
            continue
        for parent, folders, files in os.walk(path):
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            for name in sorted(files):
                if not name.startswith("."):
                    next(taken)
                    yield str(Path(parent, name))


def _answers(
    arguments: argparse.Namespace, paths: Sequence[str], unreadable: list[str]
) -> Iterator[tuple[str, Prediction]]:
    """What a server says of picture files; it names as many classes as it likes, of which `--top` are kept."""
    from keras_crossvit.serving.client import ask_about_files

    for path, answer in ask_about_files(arguments.server, paths, timeout=arguments.timeout):
        if isinstance(answer, Exception):
            _set_aside(path, answer, unreadable)
        else:
            yield path, [(str(number), name, odds) for number, name, odds in answer[: arguments.top]]


def _readable(
    paths: Iterable[str], runtime: Any, unreadable: list[str]
) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    from keras_crossvit.preprocessing import preprocess
    from keras_crossvit.preprocessing.images import read_image

    for path in paths:
        try:
            yield path, preprocess(read_image(path), runtime)
        except (OSError, ValueError) as error:
            _set_aside(path, error, unreadable)


def _set_aside(path: str, error: Exception, unreadable: list[str]) -> None:
    print(f"keras-crossvit predict: {printable(str(error))}", file=sys.stderr)
    unreadable.append(path)


def _predictions(
    runtime: Any, inputs: Iterable[tuple[str, list[np.ndarray]]], top: int
) -> Iterator[tuple[str, Prediction]]:
    from keras_crossvit.preprocessing import decode_predictions
    from keras_crossvit.preprocessing.predictions import imagenet_classes, resolve_class_names

    class_names, count = runtime.class_names, runtime.config.num_classes
    if class_names is None and count != len(imagenet_classes()):  # whose table has identifiers too
        class_names = resolve_class_names(count)
    for paths, images in _batches(inputs, runtime.batch_size or _BATCH):
        yield from zip(
            paths, decode_predictions(runtime.probabilities(*images), top=top, class_names=class_names), strict=True
        )


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
        class_names = [dict(zip(keys, each, strict=True)) for each in best]
        print(json.dumps({"file": path, "predictions": class_names}, ensure_ascii=False), flush=True)


def _print_csv(predictions: Iterable[tuple[str, Prediction]]) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("file", "rank", "identifier", "name", "probability"))
    for path, best in predictions:
        table.writerows((path, rank, *each) for rank, each in enumerate(best, start=1))


_PRINTERS = {"table": _print_table, "jsonl": _print_json_lines, "csv": _print_csv}
