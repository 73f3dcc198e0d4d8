"""The metadata of LiteRT files that MediaPipe and Android Studio read: a table, and a file of class names.

Source: the schema of TensorFlow Lite's metadata,
https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/tasks/metadata/metadata_schema.fbs.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from keras_crossvit.exporting.tool_metadata import description, labels, normalization, tensor_descriptions
from keras_crossvit.runtimes.metadata import Metadata
from keras_crossvit.runtimes.runtime import INPUT_NAMES, NAMES_OF_KIND, OUTPUT_NAME
from keras_crossvit.runtimes.signature_names import PROBABILITIES

TABLE_KEY = "TFLITE_METADATA"
LABEL_FILE = "labels.txt"
_IDENTIFIER, _VERSION = b"M001", "1.0.0"  # of the schema
# The fields of each table, in the schema's order.
_FIELDS = {
    "ModelMetadata": "name description version subgraph_metadata author license associated_files min_parser_version",
    "SubGraphMetadata": "name description input_tensor_metadata output_tensor_metadata",
    "TensorMetadata": "name description dimension_names content process_units stats associated_files",
    "Content": "content_properties_type content_properties",
    "ImageProperties": "color_space default_size",
    "ImageSize": "width height",
    "ProcessUnit": "options_type options",
    "NormalizationOptions": "mean std",
    "AssociatedFile": "name description type",
}
_IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS, _TENSOR_AXIS_LABELS = np.uint8(2), np.uint8(1), np.uint8(2)
_COLOR_SPACES = {3: np.uint8(1), 1: np.uint8(2)}  # RGB and grayscale, by number of channels

Table = dict[int, Any]  # values by the position of their field


def metadata_table(metadata: Metadata, output_names: Sequence[str]) -> bytes:
    """Returns the table of a file with these outputs, in the order of its tensors."""
    texts, config = tensor_descriptions(metadata), metadata.config

    def image(name: str) -> Table:
        height, width = config.image_sizes[INPUT_NAMES.index(name) if name in INPUT_NAMES else 0]
        size = _table("ImageSize", width=np.uint32(width), height=np.uint32(height))
        color_space = _COLOR_SPACES.get(config.in_channels, np.uint8(0))
        properties = _table("ImageProperties", color_space=color_space, default_size=size)
        content = _table("Content", content_properties_type=_IMAGE_PROPERTIES, content_properties=properties)
        mean, std = normalization(config, name)
        options = _table("NormalizationOptions", mean=mean, std=std)
        unit = _table("ProcessUnit", options_type=_NORMALIZATION_OPTIONS, options=options)
        return _table("TensorMetadata", name=name, description=texts[name], content=content, process_units=[unit])

    def output(name: str) -> Table:
        is_by_class = name in (OUTPUT_NAME, PROBABILITIES) and labels(metadata) is not None
        file = _table("AssociatedFile", name=LABEL_FILE, description="Names of the classes.", type=_TENSOR_AXIS_LABELS)
        return _table(
            "TensorMetadata", name=name, description=texts[name], **{"associated_files": [file]} if is_by_class else {}
        )

    graph = _table(
        "SubGraphMetadata",
        input_tensor_metadata=[image(name) for name in NAMES_OF_KIND[metadata.inputs]],
        output_tensor_metadata=[output(name) for name in output_names],
    )
    model = _table(
        "ModelMetadata",
        name=metadata.name,
        description=description(metadata),
        subgraph_metadata=[graph],
        min_parser_version=_VERSION,
    )
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, model), _IDENTIFIER)
    return bytes(builder.Output())


def append_labels(path: Path, metadata: Metadata) -> None:
    """Appends the names of the classes to a file as a ZIP archive, in which the schema's readers look for them."""
    names = labels(metadata)
    if names is not None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(zipfile.ZipInfo(LABEL_FILE), "\n".join(names))  # with a fixed date, and not compressed


def _table(kind: str, **values: Any) -> Table:
    fields = _FIELDS[kind].split()
    return {fields.index(name): value for name, value in values.items()}


def _write(builder: flatbuffers.Builder, value: Any) -> int:
    """Writes a text, a table, a list of tables or a list of numbers, and returns its offset."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, dict):
        return _write_table(builder, value)
    if not isinstance(value[0], dict):
        return builder.CreateNumpyVector(np.array(value, "float32"))
    offsets = [_write_table(builder, each) for each in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _write_table(builder: flatbuffers.Builder, table: Table) -> int:
    written = {slot: each if isinstance(each, np.generic) else _write(builder, each) for slot, each in table.items()}
    builder.StartObject(max(table) + 1)
    for slot, value in written.items():
        if isinstance(value, np.uint8):
            builder.PrependUint8Slot(slot, int(value), 0)
        elif isinstance(value, np.uint32):
            builder.PrependUint32Slot(slot, int(value), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()
