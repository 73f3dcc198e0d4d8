"""Writes ONNX files, for ONNX Runtime and other readers."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit.exporting.options import ExportOptions
from keras_crossvit.exporting.tool_metadata import description, labels, model_info, tensor_descriptions
from keras_crossvit.preprocessing.transforms import IMAGE
from keras_crossvit.runtimes.file_digest import BLANK_DIGEST, DIGEST_KEY, write_digest
from keras_crossvit.runtimes.metadata import METADATA_KEY, Metadata

OPSET = 18


def write(function: Any, path: Path, metadata: Metadata, options: ExportOptions) -> None:
    """Writes an `exported_function` as an `.onnx` file that passes ONNX's checker."""
    import onnx
    import tf2onnx

    with _without_copies():
        converted, _ = tf2onnx.convert.from_function(
            function,
            input_signature=function.input_signature,
            opset=OPSET,
            custom_op_handlers={"Erfc": (_write_erfc_as_erf, [])},
        )
    texts = tensor_descriptions(metadata)
    for each in (*converted.graph.input, *converted.graph.output):
        each.doc_string = texts[each.name]
        if options.batch_size is None:
            each.type.tensor_type.shape.dim[0].dim_param = "batch"
    converted.producer_name, converted.producer_version = METADATA_KEY, metadata.versions[METADATA_KEY]
    converted.graph.name = metadata.name
    converted.doc_string = converted.graph.doc_string = description(metadata)
    onnx.helper.set_model_props(converted, _properties(metadata))
    onnx.checker.check_model(converted, full_check=True)
    onnx.save_model(converted, path)
    write_digest(path)


@contextlib.contextmanager
def _without_copies() -> Iterator[None]:
    """Lets tf2onnx optimize its graph in place.

    It would copy the graph before each optimization, to go on without one that fails, and that took a third of the time
    of an export. Any value of the variable is taken for "FALSE".
    """
    name = "TF2ONNX_CATCH_ERRORS"
    if name in os.environ:
        yield
        return
    os.environ[name] = "FALSE"
    try:
        yield
    finally:
        del os.environ[name]


def _properties(metadata: Metadata) -> dict[str, str]:
    """Returns the whole description under one key, and under keys of their own what other readers need."""
    properties = {METADATA_KEY: metadata.to_json(), DIGEST_KEY: BLANK_DIGEST}
    if (names := labels(metadata)) is not None:
        properties["labels"] = json.dumps(names, ensure_ascii=False)
    if metadata.inputs != IMAGE:  # of values between 0 and 1
        properties |= {key: json.dumps(metadata.preprocessing[key]) for key in ("mean", "std")}
    return properties | {f"model_info {key}": value for key, value in model_info(metadata).items()}


def _write_erfc_as_erf(graph: Any, node: Any, name: str, arguments: list) -> None:
    """Replaces Erfc(x), which exact GELU uses and ONNX lacks, by 1 - Erf(x)."""
    one = graph.make_const(f"{name}_one", np.array(1, "float32")).output[0]
    (x,), (output,) = node.input, node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    graph.remove_node(name)
    erf = graph.make_node("Erf", [x], shapes=shapes, dtypes=dtypes)
    graph.make_node("Sub", [one, erf.output[0]], outputs=[output], name=name, shapes=shapes, dtypes=dtypes)
