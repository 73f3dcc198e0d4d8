"""`keras-crossvit export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.models.variants import is_variant

HELP = "Write a model for TensorFlow, LiteRT, OpenVINO or ONNX, once it has given the same answers there."
IMPORTS = ("keras",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "model",
        help="file of the model, such as a .keras, or folder of a run; or with --weights a published model's name",
    )
    parser.add_argument("out", help="file to write (.tflite, .xml, .onnx), or folder of a SavedModel's versions")
    parser.add_argument("--format", help="saved_model, litert, openvino or onnx (default: by the suffix of OUT)")
    parser.add_argument("--weights", help="file of the published model's weights, or imagenet to fetch them")
    parser.add_argument(
        "--quantize",
        help="litert: float16, dynamic-int8, dynamic-int4; openvino: float16, bfloat16, int8-weights (default: "
        "float32)",
    )
    parser.add_argument(
        "--batch-size",
        type=_batch_size,
        metavar="N|dynamic",
        help="pictures at once (default: 1 for litert, dynamic for the others)",
    )
    parser.add_argument("--pictures", metavar="FOLDER", help="pictures to compare on (default: photographs at hand)")
    parser.add_argument("--threads", type=int, help="threads when latency is measured (default: all processors)")
    parser.add_argument(
        "--serving-files",
        action="store_true",
        help="with saved_model: write what starts TensorFlow Serving by Docker or Kubernetes into OUT.serving/",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command, and prints how far the artefact is from its model."""
    from keras_crossvit._internal.served_name import require_served_name
    from keras_crossvit.exporting import export
    from keras_crossvit.exporting.serving_files import write_serving_files

    if arguments.serving_files:
        if arguments.format != "saved_model":
            raise InvalidValueError("--serving-files go with a SavedModel alone; add --format saved_model.")
        require_served_name(Path(arguments.out).absolute().name)
    report = export(
        _load(arguments.model, arguments.weights),
        arguments.out,
        format=arguments.format,
        quantize=arguments.quantize,
        batch_size=arguments.batch_size,
        images=arguments.images,
        threads=arguments.threads,
        overwrite=arguments.overwrite,
    )
    print(report)
    if arguments.serving_files:
        print(f"TensorFlow Serving: docker compose -f {write_serving_files(arguments.out)}/docker-compose.yaml up")


def _load(model: str, weights: str | None) -> Any:
    from keras_crossvit.models.builders import IMAGENET, create_model
    from keras_crossvit.models.loading import load_model

    if weights == IMAGENET:
        return create_model(model, weights=IMAGENET)
    if weights is not None:
        return load_model(weights, variant=model)
    if is_variant(model) and not Path(model).exists():
        raise InvalidValueError(f"{model} has no weights; give a file of them by --weights, or --weights {IMAGENET}.")
    return load_model(model)


def _batch_size(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text
