"""Example requests to a SavedModel's signatures: to compare an export on, and to warm up TensorFlow Serving."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from keras_crossvit._internal.errors import FileError, tensorflow_disk_reason
from keras_crossvit._internal.optional import require_library
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.runtimes.runtime import INPUT_NAMES, SIGNATURE
from keras_crossvit.runtimes.signature_names import BYTES_NAME

if TYPE_CHECKING:
    from keras_crossvit.models.crossvit import CrossViT

WARM_UP_FILE = Path("assets.extra", "tf_serving_warmup_requests")  # where TensorFlow Serving looks
_SIZE = (90, 120)  # height and width of the example image


def example_requests(model: CrossViT, inputs: Sequence[np.ndarray] | None = None) -> dict[str, dict[str, Any]]:
    """Returns a request to each signature of a model's SavedModel: arrays by tensor, or bytes, the last four invalid.

    Args:
        model: The model.
        inputs: The two inputs for `serving_default`. Defaults to None: eight from a normal distribution.
    """
    if inputs is None:
        random = np.random.default_rng(0)
        inputs = [random.normal(size=(8, *each.shape[1:])).astype("float32") for each in model.inputs]
    image, channels = drawn_image(), model.config.in_channels
    batch = np.stack([np.resize(image[..., :1], (*_SIZE, channels)), np.resize(image, (*_SIZE, channels))])
    requests: dict[str, dict[str, Any]] = {
        SIGNATURE: dict(zip(INPUT_NAMES, inputs, strict=True)),
        "single_image": {"image": batch},
        "single_image_float": {"image": batch.astype("float32")},
    }
    if accepts_bytes(model.config):
        files = [encoded(image, "JPEG"), encoded(image, "PNG"), *bytes_of_no_image()]
        requests[BYTES_NAME] = {BYTES_NAME: files}
    return requests


def accepts_bytes(config: CrossViTConfig) -> bool:
    """Returns whether a model can classify image files: it has a classifier, and gray or color input."""
    return config.num_classes > 0 and config.in_channels in (1, 3)


def drawn_image() -> np.ndarray:
    """Returns an image with gradients, edges and noise, shape (90, 120, 3), uint8."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0 : _SIZE[0], 0 : _SIZE[1]]
    waves = [np.sin(rows / 7), np.cos(columns / 5), np.sign(np.sin((rows + columns) / 11))]
    noise = random.normal(scale=12, size=(*_SIZE, 3))
    return np.clip(128 + 90 * np.stack(waves, axis=-1) + noise, 0, 255).astype("uint8")


def encoded(image: np.ndarray, file_format: str) -> bytes:
    """Returns an image as a file in one of Pillow's formats, such as "JPEG"."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format)
    return file.getvalue()


def bytes_of_no_image() -> list[bytes]:
    """Returns empty bytes, half a JPEG, the start of a PNG of 50,000 x 50,000 pixels, and text."""
    whole = encoded(drawn_image(), "JPEG")
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(bytes(1000))}
    huge = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
    return [b"", whole[: len(whole) // 2], huge, b"not an image"]


def write_warm_up(saved_model: Path, name: str, requests: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the first element of each request, so that no client waits for the first run of a loaded model.

    Args:
        saved_model: Folder of the version.
        name: The model's name for TensorFlow Serving.
        requests: By signature and tensor an array or a list of bytes.

    Raises:
        OSError: the file cannot be written.
        ModuleNotFoundError: tensorflow-serving-api is missing; the message says how to install it.

    Source: tensorflow.org/tfx/serving/saved_model_warmup.
    """
    predict = require_library("tensorflow_serving.apis.predict_pb2", "serving")
    logs = require_library("tensorflow_serving.apis.prediction_log_pb2", "serving")
    tensorflow = require_library("tensorflow")
    records = []
    for signature, tensors in requests.items():
        request = predict.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = signature
        for tensor, values in tensors.items():
            first = values[:1] if isinstance(values, list) else np.ascontiguousarray(values[:1])
            request.inputs[tensor].CopyFrom(tensorflow.make_tensor_proto(first))
        records.append(logs.PredictionLog(predict_log=logs.PredictLog(request=request)).SerializeToString())
    file = saved_model / WARM_UP_FILE
    file.parent.mkdir(exist_ok=True)
    try:
        with tensorflow.io.TFRecordWriter(str(file)) as writer:
            for record in records:
                writer.write(record)
    except tensorflow.errors.OpError as error:
        raise FileError(
            f"TensorFlow cannot write warm-up requests ({tensorflow_disk_reason(error)}); make room on the disk."
        ) from error
