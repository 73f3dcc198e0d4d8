"""Writes OpenVINO models: an .xml with the network and a .bin with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import FileError
from keras_crossvit._internal.optional import require_library
from keras_crossvit.exporting.graph_preprocessing import RESIZE_SCOPE
from keras_crossvit.exporting.options import ExportOptions
from keras_crossvit.exporting.tool_metadata import model_info
from keras_crossvit.exporting.tracing import saved_model_of
from keras_crossvit.runtimes.metadata import METADATA_KEY, Metadata
from keras_crossvit.runtimes.openvino import PRECISION_KEY, WEIGHTS_KEY, weights_digest
from keras_crossvit.runtimes.runtime import NAMES_OF_KIND

_PLACEHOLDER = "0" * 64


def write(function: Any, path: Path, metadata: Metadata, options: ExportOptions) -> None:
    """Writes an `exported_function` as an `.xml` file and the `.bin` of the same name.

    The precision "float16" stores weights in half the size and computes in float32; "bfloat16" stores the same and
    computes in bfloat16 where the processor can; "int8-weights" stores weights as int8 and computes in float32.

    Raises:
        ModuleNotFoundError: "int8-weights" needs NNCF, which is not installed.
        OSError: the files cannot be written.
    """
    import openvino

    nncf = require_library("nncf", "openvino") if options.quantize else None
    with saved_model_of(function) as folder:
        # `openvino.convert_model` would report each operation to Intel, from copies of this process.
        read = openvino.Core().read_model(folder)
        inputs = [read.input(name).get_node() for name in NAMES_OF_KIND[options.inputs]]  # it has sorted them by name
        converted = openvino.Model(read.get_results(), inputs, metadata.name)
        if nncf is not None:
            image_operations = nncf.IgnoredScope(patterns=[f".*{RESIZE_SCOPE}.*"], validate=False)
            converted = nncf.compress_weights(
                converted, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=image_operations
            )
        for parameter in converted.get_parameters():
            parameter.set_layout(openvino.Layout("NHWC"))
        converted.set_rt_info(metadata.to_json(), METADATA_KEY)
        for key, value in model_info(metadata).items():
            converted.set_rt_info(value, ["model_info", key])
        converted.set_rt_info(_PLACEHOLDER, WEIGHTS_KEY)
        converted.set_rt_info("bf16" if options.precision == "bfloat16" else "f32", PRECISION_KEY)
        try:
            openvino.save_model(converted, path, compress_to_fp16=options.precision != "float32")
        except RuntimeError as error:  # OpenVINO's only error, also when the disk is full
            raise FileError(
                f"'{path.name}' and its .bin cannot be written; make room on the disk ({error})."
            ) from error
    entry = f'<{WEIGHTS_KEY} value="{_PLACEHOLDER}"'  # unique in the file, since XML escapes < in texts
    digest = entry.replace(_PLACEHOLDER, weights_digest(path))
    path.write_bytes(path.read_bytes().replace(entry.encode(), digest.encode()))
