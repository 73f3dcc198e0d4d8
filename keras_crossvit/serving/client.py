"""Client of TensorFlow Serving and KServe v2 servers, over REST and gRPC."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from keras_crossvit._internal.checks import require_positive
from keras_crossvit._internal.errors import InvalidValueError, OperationError, first_line
from keras_crossvit._internal.image_files import read_image_file
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.optional import require_library
from keras_crossvit.preprocessing.predictions import ROUNDING
from keras_crossvit.runtimes.signature_names import BYTES_NAME, CLASS_IDS, CLASS_NAMES, PROBABILITIES, VALID

_URL_FORMS = (
    "http://HOST:8501/v1/models/NAME or grpc://HOST:8500/NAME for TensorFlow Serving, "
    "http://HOST:8080/v2/models/NAME or grpc://HOST:8081/v2/models/NAME for KServe v2 (keras-crossvit serve)"
)
_URL = re.compile(
    r"(?P<scheme>https?|grpc)://(?P<host>[^/]+)(?P<path>/v\d/models)?/(?P<model>[^/?#]+)"
    r"(?(path)(/versions/(?P<version>[^/?#]+))?)/?"
)
_CONCURRENT_REQUESTS = 8


class Prediction(NamedTuple):
    """A predicted class with its probability, from 0 to 1."""

    class_id: int
    name: str
    probability: float


@known_keywords_only
def classify_on_server(url: str, images: Sequence[bytes], *, timeout: float = 30.0) -> list[list[Prediction] | None]:
    """Classifies encoded images on a model server.

    Args:
        url: URL of the model. TensorFlow Serving: `http://host:8501/v1/models/name`, or `grpc://host:8500/name` with
            the extra `serving`. KServe v2, such as `keras-crossvit serve`: `http://host:8080/v2/models/name`, or
            `grpc://host:8081/v2/models/name` with the extra `kserve`. `/versions/1` may follow `/models/name`.
        images: Contents of JPEG or PNG files.
        timeout: Seconds to wait for the answer. Defaults to 30.

    Returns:
        For each image the predicted classes, most probable first, or None if the server cannot decode the image.

    Raises:
        ConnectionError: The server cannot be reached.
        MissingLibraryError: A library for gRPC is not installed; the message says how to install it.
        OperationError: The server rejects the request, or answers too much over gRPC; the message has the reason.
        TimeoutError: The server does not answer in time.
        InvalidValueError: The URL has another form, or the answer does not hold predictions of a CrossViT, or is larger
            than 1 MiB plus 64 KiB per image.
    """
    require_positive("timeout", timeout)
    if not images:
        raise InvalidValueError("There are no images to classify; pass one or more.")
    match = _URL.fullmatch(url)
    send = _PROTOCOLS.get((match["scheme"][:4], match["path"])) if match else None
    if match is None or send is None:
        raise InvalidValueError(f"'{url}' is not the URL of a model; use {_URL_FORMS}.")
    request = _Request(url.rstrip("/"), match["host"], match["model"], match["version"] or "", images, timeout)
    try:
        return _predictions(send(request), len(images))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise InvalidValueError(
            f"The answer of {url} does not hold predictions of a CrossViT ({first_line(error)}); export the model with "
            "keras-crossvit."
        ) from error


@known_keywords_only
def classify_files_on_server(
    url: str, paths: Iterable[str | PathLike], *, timeout: float = 30.0
) -> Iterator[tuple[str | PathLike, list[Prediction] | Exception]]:
    """Classifies image files on a model server, eight at a time, each in its own request.

    Args:
        url: As for `classify_on_server`, which also raises the same errors.
        paths: The files.
        timeout: Seconds to wait for each answer. Defaults to 30.

    Yields:
        Each path with its predicted classes, or with the error if the file cannot be read or decoded.
    """

    def classify(path: str | PathLike) -> tuple[str | PathLike, list[Prediction] | Exception]:
        try:
            contents = read_image_file(path)
        except (OSError, InvalidValueError) as error:
            return path, error
        (predictions,) = classify_on_server(url, [contents], timeout=timeout)
        if predictions is None:
            return path, InvalidValueError(f"{url} cannot decode '{path}'; send an intact JPEG or PNG file.")
        return path, predictions

    with ThreadPoolExecutor(_CONCURRENT_REQUESTS) as threads:
        yield from threads.map(classify, paths)


def _predictions(outputs: dict[str, Any], count: int) -> list[list[Prediction] | None]:
    if len(outputs[VALID]) != count:
        raise ValueError(f"{len(outputs[VALID])} answers for {count} images")
    probabilities = np.asarray(outputs[PROBABILITIES], "float64")
    if (outside := ~((probabilities >= -ROUNDING) & (probabilities <= 1 + ROUNDING))).any():
        raise ValueError(f"probability {probabilities[outside][0]} is not from 0 to 1")
    columns = (outputs[CLASS_IDS], outputs[CLASS_NAMES], probabilities.tolist())
    return [
        [
            Prediction(int(class_id), name.decode() if isinstance(name, bytes) else str(name), probability)
            for class_id, name, probability in zip(*row, strict=True)
        ]
        if valid
        else None
        for valid, *row in zip(outputs[VALID], *columns, strict=True)
    ]


class _Request(NamedTuple):
    url: str
    host: str
    model: str
    version: str
    images: Sequence[bytes]
    timeout: float

    @property
    def max_answer_bytes(self) -> int:
        return 2**20 + 2**16 * len(self.images)

    @property
    def grpc_options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", self.max_answer_bytes),
        ]


# REST needs nothing but the standard library; tritonclient.http would add gevent and another extra for five lines.
def _tensorflow_rest(request: _Request) -> dict[str, Any]:
    instances = [{"b64": image} for image in _base64(request.images)]
    body = {"signature_name": BYTES_NAME, "inputs": {BYTES_NAME: instances}}
    return _post(request, ":predict", body)["outputs"]


def _kserve_rest(request: _Request) -> dict[str, Any]:
    tensor = {"name": BYTES_NAME, "shape": [len(request.images)], "datatype": "BYTES", "data": _base64(request.images)}
    answer = _post(request, "/infer", {"inputs": [tensor]})
    return {each["name"]: np.reshape(each["data"], each["shape"]).tolist() for each in answer["outputs"]}


def _base64(images: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(image).decode() for image in images]


def _post(request: _Request, endpoint: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    post = urllib.request.Request(request.url + endpoint, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(post, timeout=request.timeout) as response:
            contents = response.read(request.max_answer_bytes + 1)
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(request.max_answer_bytes).decode(errors="replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            text = str(json.loads(text)["error"])
        raise _server_error(request, error.code, " ".join(text.split())[:500] or "no reason given") from error
    except (TimeoutError, urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        code = "DEADLINE_EXCEEDED" if isinstance(reason, TimeoutError) else "UNAVAILABLE"
        raise _server_error(request, code, reason) from error
    if len(contents) > request.max_answer_bytes:
        raise ValueError(f"more than {request.max_answer_bytes:,} bytes")
    return json.loads(contents)


def _tensorflow_grpc(request: _Request) -> dict[str, Any]:
    grpc = require_library("grpc", "serving")
    predict_pb2 = require_library("tensorflow_serving.apis.predict_pb2", "serving")
    stubs = require_library("tensorflow_serving.apis.prediction_service_pb2_grpc", "serving")
    tensorflow = require_library("tensorflow")
    message = predict_pb2.PredictRequest()
    message.model_spec.name = request.model
    message.model_spec.signature_name = BYTES_NAME
    tensor = tensorflow.make_tensor_proto(request.images, dtype="string", shape=[len(request.images)])
    message.inputs[BYTES_NAME].CopyFrom(tensor)
    try:
        with grpc.insecure_channel(request.host, options=request.grpc_options) as channel:
            answer = stubs.PredictionServiceStub(channel).Predict(message, timeout=request.timeout)
    except grpc.RpcError as error:
        raise _server_error(request, error.code().name, error.details()) from error
    return {name: tensorflow.make_ndarray(tensor).tolist() for name, tensor in answer.outputs.items()}


def _kserve_grpc(request: _Request) -> dict[str, Any]:
    client = require_library("tritonclient.grpc", "kserve")
    tensor = client.InferInput(BYTES_NAME, [len(request.images)], "BYTES")
    tensor.set_data_from_numpy(np.array(request.images, dtype=object))
    try:
        with client.InferenceServerClient(request.host, channel_args=request.grpc_options) as server:
            options = {"model_version": request.version, "client_timeout": request.timeout}
            answer = server.infer(request.model, [tensor], **options)
    except client.InferenceServerException as error:
        code = (error.status() or "no status").rpartition(".")[2]
        raise _server_error(request, code, error.message()) from error
    return {each.name: answer.as_numpy(each.name).tolist() for each in answer.get_response().outputs}


def _server_error(request: _Request, code: int | str, reason: Any) -> Exception:
    """Returns the exception for a status of HTTP or gRPC."""
    url = request.url
    if code == "DEADLINE_EXCEEDED":
        return TimeoutError(f"{url} did not answer within {request.timeout:g} s; use a longer timeout.")
    if code == "UNAVAILABLE":
        return ConnectionError(f"{url} cannot be reached ({reason}); start the server, or correct the URL.")
    if code == "UNIMPLEMENTED":
        return OperationError(f"{url} speaks another protocol; use {_URL_FORMS}.")
    if code == "RESOURCE_EXHAUSTED":
        return OperationError(f"The request to {url} or its answer is too large ({reason}); send fewer images at once.")
    return OperationError(f"{url} rejected the request ({code}): {reason}")


_PROTOCOLS = {
    ("http", "/v1/models"): _tensorflow_rest,
    ("grpc", None): _tensorflow_grpc,
    ("http", "/v2/models"): _kserve_rest,
    ("grpc", "/v2/models"): _kserve_grpc,
}
