"""OpenVINO's intermediate representation: a .xml with the network and a .bin with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import FileError
from keras_crossvit._internal.optional import require_library
from keras_crossvit.exporting.tracing import logits_function
from keras_crossvit.runtimes.metadata import METADATA_KEY, Metadata
from keras_crossvit.runtimes.openvino import PRECISION_KEY, WEIGHTS_KEY, weights_digest

_TO_COME = "0" * 64


def write(model: Any, path: Path, metadata: Metadata, *, quantize: str | None, batch_size: int | None) -> None:
    """Writes a `.xml` file and the `.bin` of the same name.

    Args:
        model: What `in_float32` returns.
        path: The `.xml` file to write.
        metadata: What the file says of its model.
        quantize: None for float32; "float16" for weights of half the size, computed in float32; "bfloat16" for the
            same and the wish to compute in bfloat16 where the processor does; "int8-weights" for weights of a quarter
            of the size, computed in float32.
        batch_size: Pictures at once, or None for any number.

    Raises:
        ModuleNotFoundError: "int8-weights" needs NNCF, which is not installed.
        OSError: the files cannot be written.
    """
    import openvino

    nncf = require_library("nncf", "openvino") if quantize == "int8-weights" else None
    converted = openvino.convert_model(logits_function(model, batch_size).get_concrete_function())
    if nncf is not None:
        converted = nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_SYM)
    converted.set_rt_info(metadata.to_json(), METADATA_KEY)
    converted.set_rt_info(_TO_COME, WEIGHTS_KEY)
    converted.set_rt_info("bf16" if quantize == "bfloat16" else "f32", PRECISION_KEY)
    try:
        openvino.save_model(converted, path, compress_to_fp16=quantize in ("float16", "bfloat16"))
    except RuntimeError as error:  # the disk is full, which OpenVINO does not say
        raise FileError(f"'{path.name}' and its .bin cannot be written; make room on the disk ({error}).") from error
    entry = f'<{WEIGHTS_KEY} value="{_TO_COME}"'  # which no text in the file has, since XML escapes its brackets
    path.write_bytes(path.read_bytes().replace(entry.encode(), entry.replace(_TO_COME, weights_digest(path)).encode()))
