"""`keras-crossvit summary`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from keras_crossvit._internal.errors import InvalidValueError, MissingFileError, listed
from keras_crossvit._internal.user_text import one_line
from keras_crossvit.cli.environment import import_quietly
from keras_crossvit.cli.options import add_json, only_json_on_stdout, print_json

if TYPE_CHECKING:
    from keras_crossvit.models.crossvit import CrossViT

HELP = "Show the architecture of a published model, a model file, an exported model or a run; or draw it."
EXAMPLES = ("crossvit_9_dagger", "runs/pets --json")
_KERAS = ("keras",)  # which an exported file does not need
_LISTED = 12  # classes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "model", help="name of a model, as `keras-crossvit list` or timm spells it, run folder, model file or export"
    )
    parser.add_argument("--num-classes", type=int, help="number of classes of a published model (default: 1000)")
    parser.add_argument(
        "--allow-any-operation",
        action="store_true",
        help="load a SavedModel with operations that this package does not export; only from those whom you trust",
    )
    parser.add_argument(
        "--svg", metavar="FILE", help="draw both branches, with token counts and the cost of each part, into a file"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    """Prints a model, or draws it."""
    with only_json_on_stdout(arguments):
        model, facts = _open(arguments)
    if arguments.svg is not None:
        if model is None:
            raise InvalidValueError(f"'{arguments.model}' is an export, which has no layers to draw; pass its model.")
        from keras_crossvit.models.drawing import draw_architecture

        draw_architecture(model, arguments.svg)
        print(f"Drew {arguments.svg}", file=sys.stderr)
    elif arguments.json:
        print_json(facts)
    elif model is None:
        for name, value in facts.items():
            print(f"{name.replace('_', ' '):24}{one_line(_shown(value))}")
    else:
        print(model)
        model.summary()


def _open(arguments: argparse.Namespace) -> tuple[CrossViT | None, dict[str, Any]]:
    """Returns the model, or None for an export, and what there is to know about it."""
    from keras_crossvit._internal.model_paths import CHECKPOINT_SUFFIXES, resolve_model_path
    from keras_crossvit.models.variants import variant_config, variant_name
    from keras_crossvit.runtimes.formats import FORMAT_OF_SUFFIX

    path = resolve_model_path(arguments.model)
    if not path.exists():
        if path.suffix in FORMAT_OF_SUFFIX or path.name.endswith(CHECKPOINT_SUFFIXES):
            raise MissingFileError(f"There is no file '{path}'; check the path, or pass the name of a model.")
        name = variant_name(arguments.model)
        import_quietly(_KERAS)
        from keras_crossvit.models.builders import build_crossvit

        count = 1000 if arguments.num_classes is None else arguments.num_classes
        model = build_crossvit(variant_config(name, num_classes=count), name=name)
        return model, _facts(model)
    if arguments.num_classes is not None:
        raise InvalidValueError(f"--num-classes {arguments.num_classes} is for published models; '{path}' has its own.")
    if path.is_file() and path.name.endswith(CHECKPOINT_SUFFIXES):
        import_quietly(_KERAS)
        from keras_crossvit.models.loading import load_model

        model = load_model(path)
        return model, {**_facts(model), "bytes": path.stat().st_size}
    from keras_crossvit.runtimes import load_runtime

    runtime = load_runtime(path, quiet=True, allow_any_operation=arguments.allow_any_operation)
    described = {**json.loads(runtime.metadata.to_json()), "runtime": runtime.name, "batch_size": runtime.batch_size}
    return None, {**described, "bytes": path.stat().st_size} if path.is_file() else described


def _facts(model: CrossViT) -> dict[str, Any]:
    from keras_crossvit.runtimes.metadata import metadata_of

    return {**json.loads(metadata_of(model).to_json()), "parameters": model.count_params()}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return listed([str(each) for each in value], _LISTED) if isinstance(value, list) else str(value)
