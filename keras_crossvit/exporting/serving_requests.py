"""Requests that TensorFlow Serving runs when it loads a model, so that no client waits for the first one."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_crossvit._internal.errors import FileError, tensorflow_disk_reason
from keras_crossvit._internal.optional import require_library
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.runtimes.runtime import INPUT_NAMES, SIGNATURE
from keras_crossvit.runtimes.signature_names import BYTES_NAME

_SIZE = (90, 120)  # height and width of the drawn picture


def example_requests(model: Any, images: list[np.ndarray] | None = None) -> dict[str, dict[str, Any]]:
    """A request to each signature of a model's SavedModel.

    Args:
        model: A `CrossViT`.
        images: The two inputs for `serving_default`. Defaults to None: eight drawn from a normal distribution.

    Returns:
        By signature, its tensors by name; for `image_bytes`, where the model has it, a list of bytes, of which the last
        four are no picture.
    """
    random = np.random.default_rng(0)
    if images is None:
        images = [random.normal(size=(8, *each.shape[1:])).astype("float32") for each in model.inputs]
    image = drawn_image()
    channels = model.config.in_channels
    batch = np.stack([np.resize(image[..., :1], (*_SIZE, channels)), np.resize(image, (*_SIZE, channels))])
    requests: dict[str, dict[str, Any]] = {
        SIGNATURE: dict(zip(INPUT_NAMES, images, strict=True)),
        "single_image": {"image": batch},
        "single_image_float": {"image": batch.astype("float32")},
    }
    if accepts_bytes(model.config):
        files = [encoded(image, "JPEG"), encoded(image, "PNG"), *bytes_of_no_image()]
        requests[BYTES_NAME] = {BYTES_NAME: files}
    return requests


def accepts_bytes(config: CrossViTConfig) -> bool:
    """Whether a model can name what is in a picture file: it has classes, and channels that files can be made to."""
    return config.num_classes > 0 and config.in_channels in (1, 3)


def drawn_image() -> np.ndarray:
    """A picture with smooth slopes, edges and noise, shape (90, 120, 3), uint8."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0 : _SIZE[0], 0 : _SIZE[1]]
    waves = [np.sin(rows / 7), np.cos(columns / 5), np.sign(np.sin((rows + columns) / 11))]
    noise = random.normal(scale=12, size=(*_SIZE, 3))
    return np.clip(128 + 90 * np.stack(waves, axis=-1) + noise, 0, 255).astype("uint8")


def encoded(image: np.ndarray, file_format: str) -> bytes:
    """The bytes of a picture's file in a format of Pillow's, such as "JPEG"."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format)
    return file.getvalue()


def bytes_of_no_image() -> list[bytes]:
    """Nothing at all, half a JPEG, the beginning of a PNG of 50,000 x 50,000 pixels, and plain text."""
    whole = encoded(drawn_image(), "JPEG")
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(bytes(1000))}
    huge = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
    return [b"", whole[: len(whole) // 2], huge, b"no picture"]


FILE = Path("assets.extra", "tf_serving_warmup_requests")  # where TensorFlow Serving looks


def write_warm_up(saved_model: Path, name: str, requests: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes a warm-up record per signature into a SavedModel.

    Args:
        saved_model: Folder of the version.
        name: The model's name for TensorFlow Serving.
        requests: Tensors by signature and name; lists of bytes for strings. Of each the first element is taken.

    Raises:
        OSError: the place cannot be written.
        ModuleNotFoundError: tensorflow-serving-api is missing; the message says how to install it.

    Source: tensorflow.org/tfx/serving/saved_model_warmup.
    """
    predict = require_library("tensorflow_serving.apis.predict_pb2", "serving")
    logs = require_library("tensorflow_serving.apis.prediction_log_pb2", "serving")
    tensorflow = require_library("tensorflow")
    logged = []
    for signature, tensors in requests.items():
        request = predict.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = signature
        for tensor, values in tensors.items():
            first = values[:1] if isinstance(values, list) else np.ascontiguousarray(values[:1])
            request.inputs[tensor].CopyFrom(tensorflow.make_tensor_proto(first))
        logged.append(logs.PredictionLog(predict_log=logs.PredictLog(request=request)))
    (saved_model / FILE).parent.mkdir(exist_ok=True)
    try:
        with tensorflow.io.TFRecordWriter(str(saved_model / FILE)) as file:
            for log in logged:
                file.write(log.SerializeToString())
    except tensorflow.errors.OpError as error:
        raise FileError(
            f"TensorFlow cannot write warm-up records ({tensorflow_disk_reason(error)}); make room on the disk."
        ) from error
