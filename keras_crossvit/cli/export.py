"""`keras-crossvit export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.user_text import one_line
from keras_crossvit.cli.options import add_out, out_of, require_paths
from keras_crossvit.models.variants import is_variant
from keras_crossvit.preprocessing.transforms import IMAGE, TENSORS
from keras_crossvit.runtimes.formats import FLOAT32, FORMATS, PRECISIONS, QUANTIZATIONS
from keras_crossvit.runtimes.runtime import OUTPUT_NAME, OUTPUTS

if TYPE_CHECKING:
    from keras_crossvit.models.crossvit import CrossViT

HELP = "Export a model to TensorFlow Serving, LiteRT, OpenVINO or ONNX, and check that it gives the same outputs."
EXAMPLES = ("runs/pets pets.tflite --quantize dynamic-int8", "runs/pets saved_models/pets --format saved_model")
IMPORTS = ("keras",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "model", help="model file such as .keras, or run folder; with --weights the name of a published model"
    )
    add_out(parser, help="file to write (.tflite, .xml, .onnx), or folder of a SavedModel's versions")
    parser.add_argument("--format", choices=FORMATS, help="format of the export (default: by the suffix of OUT)")
    parser.add_argument("-w", "--weights", help="weights file of the published model, or imagenet to download it")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=FLOAT32,
        help=f"precision of the weights: {_supported('precisions')} (default: %(default)s)",
    )
    parser.add_argument(
        "--quantize",
        choices=QUANTIZATIONS,
        help=f"quantize the weights to 8 bits: {_supported('quantizations')} (default: not quantized)",
    )
    parser.add_argument(
        "-b",
        "--batch-size",
        type=_batch_size,
        metavar="N|dynamic",
        help="batch size of the export, or dynamic for any (default: 1 for litert, dynamic for the others)",
    )
    parser.add_argument(
        "--outputs",
        nargs="+",
        choices=OUTPUTS,
        default=[OUTPUT_NAME],
        help="outputs; explanation adds what each patch contributes to the predicted class (default: logits)",
    )
    parser.add_argument(
        "--inputs",
        choices=(TENSORS, IMAGE),
        default=TENSORS,
        help="what a file takes: both normalized inputs, or one uint8 image at the first image size, of which it "
        "makes them (default: %(default)s)",
    )
    parser.add_argument(
        "--images", metavar="FOLDER", help="images to compare on (default: two photographs of scikit-learn)"
    )
    parser.add_argument("--threads", type=int, help="threads to measure the latency with (default: all processors)")
    parser.add_argument(
        "--serving-files",
        action="store_true",
        help="with --format saved_model: write the files that start TensorFlow Serving with Docker into OUT.serving/",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def check(arguments: argparse.Namespace) -> None:
    """Finds missing files before libraries are imported, which takes seconds."""
    if not is_variant(arguments.model):
        require_paths(arguments.model)
    require_paths(None if arguments.weights == "imagenet" else arguments.weights, arguments.images)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command and prints the result."""
    from keras_crossvit._internal.served_name import require_served_name
    from keras_crossvit.exporting import export, write_serving_files

    out = str(out_of(arguments))
    if arguments.serving_files:
        if arguments.format != "saved_model":
            raise InvalidValueError("--serving-files needs a SavedModel; add --format saved_model.")
        require_served_name(Path(out).absolute().name)
    result = export(
        _load(arguments.model, arguments.weights),
        out,
        format=arguments.format,
        precision=arguments.precision,
        quantize=arguments.quantize,
        batch_size=arguments.batch_size,
        outputs=arguments.outputs,
        inputs=arguments.inputs,
        images=arguments.images,
        threads=arguments.threads,
        overwrite=arguments.overwrite,
    )
    print(result)
    if arguments.serving_files:
        folder = one_line(write_serving_files(out))
        print(f"TensorFlow Serving: docker compose -f {folder}/docker-compose.yaml up")


def _load(model: str, weights: str | None) -> CrossViT:
    from keras_crossvit.models.builders import IMAGENET, create_model
    from keras_crossvit.models.loading import load_model

    if weights == IMAGENET:
        return create_model(model, weights=IMAGENET)
    if weights is not None:
        return load_model(weights, variant=model)
    if is_variant(model) and not Path(model).exists():
        raise InvalidValueError(
            f"{model} has no weights; pass a weights file with --weights, or --weights {IMAGENET} to download one."
        )
    return load_model(model)


def _supported(kind: str) -> str:
    """Lists the formats that support each value of an option."""
    values = dict.fromkeys(value for each in FORMATS.values() for value in getattr(each, kind))
    formats = {value: [each.name for each in FORMATS.values() if value in getattr(each, kind)] for value in values}
    return "; ".join(
        f"{value} for {'all' if len(names) == len(FORMATS) else ', '.join(names)}" for value, names in formats.items()
    )


def _batch_size(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text
