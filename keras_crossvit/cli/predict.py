"""`keras-crossvit predict`."""

from __future__ import annotations

import argparse
import csv
import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.user_text import csv_cell, json_text, one_line

if TYPE_CHECKING:
    from keras_crossvit.explaining.gallery import Gallery
    from keras_crossvit.explaining.runtime_explainer import RuntimeExplainer
    from keras_crossvit.runtimes import Runtime
    from keras_crossvit.runtimes.classification import Predictions

HELP = "Classify images with a trained or exported model, or on a model server."
EXAMPLES = (
    "pets.tflite photos/ --explain why",
    "--server http://localhost:8080/v2/models/pets photos/ --output-format jsonl",
)
_USAGE = "%(prog)s [options] MODEL IMAGE [IMAGE ...]\n       %(prog)s [options] --server URL IMAGE [IMAGE ...]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.usage = _USAGE
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="MODEL IMAGE",
        help="a model and images to classify; with --server only images. The model is a .keras, .safetensors, .tflite, "
        ".xml or .onnx file, the folder of a SavedModel or training run, or the name of a published model. Images are "
        "files, or folders of files",
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
        "--explain",
        metavar="OUT",
        help="folder for pictures of what speaks for the first class of each image, and a page of all of them: new or "
        "empty, or that of the same command before; needs a file exported with --outputs logits explanation",
    )
    parser.add_argument(
        "--output-format",
        "--format",
        dest="output_format",
        choices=sorted(_PRINTERS),
        default="table",
        help="output format (default: %(default)s)",
    )
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help="read files outside of a given folder that symbolic links in it lead to",
    )
    parser.add_argument("--threads", type=int, help="threads of the runtime (default: number of processors)")
    parser.add_argument(
        "--allow-any-operation",
        action="store_true",
        help="load a SavedModel with operations that this package does not export; only from those whom you trust",
    )


def run(arguments: argparse.Namespace) -> None:
    """Classifies the images and prints their classes; files that cannot be read are reported and skipped."""
    from keras_crossvit._internal.checks import require_integer
    from keras_crossvit._internal.image_files import files_inside, files_of

    require_integer("top", arguments.top, minimum=1)
    if arguments.server is not None:
        model, images = arguments.server, arguments.inputs
    else:
        model, *images = arguments.inputs
    if not images:
        raise InvalidValueError(f"There are no images to classify with '{model}'; pass image files or folders.")
    if arguments.server is not None and arguments.explain is not None:
        raise InvalidValueError(f"--explain {arguments.explain} needs the model's file; leave out --server.")
    found = list(files_of(images, follow_links=arguments.follow_links))
    if not found:
        raise InvalidValueError(f"There are no files in {', '.join(map(repr, images))}; pass image files or folders.")
    unreadable = list[str]()
    files = files_inside(found, on_error=functools.partial(_skip, unreadable=unreadable))
    if arguments.server is not None:
        predictions = _classify_on_server(arguments, files, unreadable)
    else:
        from keras_crossvit.runtimes.classification import open_runtime

        runtime = open_runtime(
            model, len(found), threads=arguments.threads, allow_any_operation=arguments.allow_any_operation
        )
        if arguments.explain is None:
            predictions = _classify(runtime, files, arguments.top, unreadable)
        else:
            explainer, gallery = _explainer_and_gallery(runtime, model, arguments.explain)
            predictions = _explain(explainer, gallery, files, arguments.top, unreadable)
    _PRINTERS[arguments.output_format](predictions, None if arguments.server else runtime.calibration.threshold or 0.0)
    classified = len(found) - len(unreadable)
    print(f"Classified {classified} of {len(found)} images with {one_line(model)}.", file=sys.stderr)
    if arguments.explain is not None and classified:
        print(f"Explained them: {one_line(gallery.write_page(model, files))}", file=sys.stderr)
    if unreadable:
        raise InvalidValueError(f"{len(unreadable)} of {len(found)} images could not be read; see the messages above.")


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
    from keras_crossvit.preprocessing.files import preprocess_files
    from keras_crossvit.runtimes.classification import batch_size_of, top_classes

    skip = functools.partial(_skip, unreadable=unreadable)
    for names, inputs in preprocess_files(paths, runtime, batch_size_of(runtime), on_error=skip):
        yield from zip(names, top_classes(runtime, runtime.logits(*inputs), top), strict=True)


def _explainer_and_gallery(runtime: Runtime, model: str, folder: str) -> tuple[RuntimeExplainer, Gallery]:
    from keras_crossvit.explaining.gallery import Gallery
    from keras_crossvit.explaining.runtime_explainer import RuntimeExplainer
    from keras_crossvit.runtimes.formats import model_digest
    from keras_crossvit.runtimes.runtime import EXPLANATION

    if EXPLANATION not in runtime.metadata.outputs:
        raise InvalidValueError(
            f"'{model}' has no explanations among its outputs; export the model with --outputs logits explanation, or "
            "explain a Keras model or run with keras-crossvit explain."
        )
    explainer = RuntimeExplainer(runtime)
    return explainer, Gallery(folder, {"model sha256": model_digest(Path(model)), "method": explainer.method})


def _explain(
    explainer: RuntimeExplainer, gallery: Gallery, paths: Sequence[str], top: int, unreadable: list[str]
) -> Iterator[tuple[str, Predictions]]:
    """Classifies the images, and writes a picture of each explanation that is not there yet."""
    from keras_crossvit.preprocessing.files import map_files
    from keras_crossvit.runtimes.classification import batch_size_of, top_classes

    skip = functools.partial(_skip, unreadable=unreadable)
    for names, samples in map_files(explainer.read, paths, batch_size_of(explainer.runtime), on_error=skip):
        explanations, logits = explainer.explain_samples(samples)
        for name, explanation in zip(names, explanations, strict=True):
            if not gallery.has(name):
                gallery.write(name, explanation)
        yield from zip(names, top_classes(explainer.runtime, logits, top), strict=True)


def _skip(path: str, error: Exception, unreadable: list[str]) -> None:
    print(f"keras-crossvit predict: {one_line(error)}", file=sys.stderr)
    unreadable.append(path)


def _print_table(predictions: Iterable[tuple[str, Predictions]], threshold: float | None) -> None:
    for path, best in predictions:
        for rank, (_, name, probability) in enumerate(best):
            unsure = "  unsure" if not rank and probability < (threshold or 0) else ""
            print(f"{'' if rank else one_line(path):40} {one_line(name):24} {probability:7.2%}{unsure}", flush=True)


def _print_json_lines(predictions: Iterable[tuple[str, Predictions]], threshold: float | None) -> None:
    keys = ("identifier", "name", "probability")
    for path, best in predictions:
        classes = [dict(zip(keys, each, strict=True)) for each in best]
        unsure = {} if threshold is None else {"unsure": bool(best[0][2] < threshold)}  # a server does not say it here
        print(json_text({"file": path, "predictions": classes, **unsure}), flush=True)


def _print_csv(predictions: Iterable[tuple[str, Predictions]], threshold: float | None) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("file", "rank", "identifier", "name", "probability", "unsure"))
    for path, best in predictions:
        unsure = "" if threshold is None else bool(best[0][2] < threshold)
        table.writerows(map(csv_cell, (path, rank, *each, unsure)) for rank, each in enumerate(best, start=1))


_PRINTERS = {"table": _print_table, "jsonl": _print_json_lines, "csv": _print_csv}
