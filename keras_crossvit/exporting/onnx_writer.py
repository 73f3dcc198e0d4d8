"""Writes ONNX files, for ONNX Runtime and other readers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_crossvit.exporting.options import ExportOptions
from keras_crossvit.exporting.tracing import exported_function
from keras_crossvit.runtimes.metadata import METADATA_KEY, Metadata

if TYPE_CHECKING:
    from keras_crossvit.models.crossvit import CrossViT

OPSET = 18


def write(model: CrossViT, path: Path, metadata: Metadata, options: ExportOptions) -> None:
    """Writes a float32 model as an `.onnx` file that passes ONNX's checker."""
    import onnx
    import tf2onnx

    function = exported_function(model, options)
    converted, _ = tf2onnx.convert.from_function(
        function,
        input_signature=function.input_signature,
        opset=OPSET,
        custom_op_handlers={"Erfc": (_write_erfc_as_erf, [])},
    )
    if options.batch_size is None:
        for each in (*converted.graph.input, *converted.graph.output):
            each.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(converted, {METADATA_KEY: metadata.to_json()})
    onnx.checker.check_model(converted, full_check=True)
    onnx.save_model(converted, path)


def _write_erfc_as_erf(graph: Any, node: Any, name: str, arguments: list) -> None:
    """Replaces Erfc(x), which exact GELU uses and ONNX lacks, by 1 - Erf(x)."""
    one = graph.make_const(f"{name}_one", np.array(1, "float32")).output[0]
    (x,), (output,) = node.input, node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    graph.remove_node(name)
    erf = graph.make_node("Erf", [x], shapes=shapes, dtypes=dtypes)
    graph.make_node("Sub", [one, erf.output[0]], outputs=[output], name=name, shapes=shapes, dtypes=dtypes)
