"""ONNX files, for ONNX Runtime and whatever else reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit.exporting.tracing import input_signature, logits_function
from keras_crossvit.runtimes.metadata import METADATA_KEY, Metadata

OPSET = 18


def write(model: Any, path: Path, metadata: Metadata, *, quantize: None, batch_size: int | None) -> None:
    """Writes an `.onnx` file that ONNX's checker finds nothing to say about.

    Args:
        model: What `in_float32` returns.
        path: The file to write.
        metadata: What the file says of its model.
        quantize: None: float32.
        batch_size: Pictures at once, or None for any number.
    """
    import onnx
    import tf2onnx

    converted, _ = tf2onnx.convert.from_function(
        logits_function(model, batch_size),
        input_signature=input_signature(model, batch_size),
        opset=OPSET,
        custom_op_handlers={"Erfc": (_write_erfc_as_erf, [])},
    )
    if batch_size is None:
        for each in (*converted.graph.input, *converted.graph.output):
            each.type.tensor_type.shape.dim[0].dim_param = "images"
    onnx.helper.set_model_props(converted, {METADATA_KEY: metadata.to_json()})
    onnx.checker.check_model(converted, full_check=True)
    onnx.save_model(converted, path)


def _write_erfc_as_erf(graph: Any, node: Any, name: str, arguments: list) -> None:
    """Writes Erfc(x), of which exact GELU is made and which ONNX does not have, as 1 - Erf(x)."""
    one = graph.make_const(f"{name}_one", np.array(1, "float32")).output[0]
    (x,), (output,) = node.input, node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    graph.remove_node(name)
    erf = graph.make_node("Erf", [x], shapes=shapes, dtypes=dtypes)
    graph.make_node("Sub", [one, erf.output[0]], outputs=[output], name=name, shapes=shapes, dtypes=dtypes)
