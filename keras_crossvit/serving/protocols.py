"""The protocols of model servers: one function each, from the bytes of picture files to a server's outputs by name."""

from __future__ import annotations

import base64
import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, urlsplit

import numpy as np

from keras_crossvit.optional import require_library
from keras_crossvit.serving.picture_service import BYTES_NAME

FORMS = (
    "http://HOST:8501/v1/models/NAME or grpc://HOST:8500/NAME (TensorFlow Serving), or http://HOST:8080/v2/models/NAME "
    "or grpc://HOST:8081/v2/models/NAME (KServe v2, such as keras-crossvit serve)"
)
_MODEL = r"/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?/?"


def protocol_of(url: str) -> Callable[[list[bytes], float], dict[str, Any]]:
    """How to ask a server, as its URL says it.

    Returns:
        Function of the files' bytes and the seconds to wait, which returns the server's outputs by name.

    Raises:
        ValueError: the URL has none of the known forms.
    """
    address = urlsplit(url)
    over_http = address.scheme in ("http", "https")
    protocols = (
        (over_http, f"/v1{_MODEL}", _by_tensorflow_rest),
        (over_http, f"/v2{_MODEL}", _by_kserve_rest),
        (address.scheme == "grpc", "/(?P<name>[^/]+)/?", _by_tensorflow_grpc),
        (address.scheme == "grpc", f"/v2{_MODEL}", _by_kserve_grpc),
    )
    for has_scheme, path, ask in protocols:
        found = re.fullmatch(path, address.path)
        if address.hostname and has_scheme and found:
            return lambda pictures, timeout: ask(url.rstrip("/"), address, found.groupdict(), pictures, timeout)
    raise ValueError(f"'{url}' is no address of a model; use {FORMS}.")


def _by_tensorflow_rest(
    url: str, address: SplitResult, model: dict[str, str | None], pictures: list[bytes], timeout: float
) -> dict[str, Any]:
    instances = [{"b64": each} for each in _in_base64(pictures)]
    return _post(f"{url}:predict", {"signature_name": BYTES_NAME, "inputs": {BYTES_NAME: instances}}, timeout)[
        "outputs"
    ]


def _by_kserve_rest(
    url: str, address: SplitResult, model: dict[str, str | None], pictures: list[bytes], timeout: float
) -> dict[str, Any]:
    tensor = {"name": BYTES_NAME, "shape": [len(pictures)], "datatype": "BYTES", "data": _in_base64(pictures)}
    answer = _post(f"{url}/infer", {"inputs": [tensor]}, timeout)
    return {each["name"]: np.reshape(each["data"], each["shape"]).tolist() for each in answer["outputs"]}


def _in_base64(pictures: list[bytes]) -> list[str]:
    return [base64.b64encode(each).decode() for each in pictures]


def _post(url: str, body: dict[str, Any], timeout: float) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise _refusal(url, error.code, _reason(error.read())) from error
    except (TimeoutError, urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise (_late(url, timeout) if isinstance(reason, TimeoutError) else _unreachable(url, reason)) from error


def _by_tensorflow_grpc(
    url: str, address: SplitResult, model: dict[str, str | None], pictures: list[bytes], timeout: float
) -> dict[str, Any]:
    grpc = require_library("grpc", "serving")
    predict_pb2 = require_library("tensorflow_serving.apis.predict_pb2", "serving")
    stubs = require_library("tensorflow_serving.apis.prediction_service_pb2_grpc", "serving")
    tensorflow = require_library("tensorflow")
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model["name"]
    request.model_spec.signature_name = BYTES_NAME
    request.inputs[BYTES_NAME].CopyFrom(tensorflow.make_tensor_proto(pictures, dtype="string", shape=[len(pictures)]))
    options = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
    try:
        with grpc.insecure_channel(address.netloc, options=options) as channel:
            answer = stubs.PredictionServiceStub(channel).Predict(request, timeout=timeout)
    except grpc.RpcError as error:
        raise _failed_call(url, error.code().name, error.details(), timeout) from error
    return {name: tensorflow.make_ndarray(tensor).tolist() for name, tensor in answer.outputs.items()}


def _by_kserve_grpc(
    url: str, address: SplitResult, model: dict[str, str | None], pictures: list[bytes], timeout: float
) -> dict[str, Any]:
    client = require_library("tritonclient.grpc", "kserve")
    tensor = client.InferInput(BYTES_NAME, [len(pictures)], "BYTES")
    tensor.set_data_from_numpy(np.array(pictures, dtype=object))
    try:
        with client.InferenceServerClient(address.netloc) as server:
            answer = server.infer(model["name"], [tensor], model_version=model["version"] or "", client_timeout=timeout)
    except client.InferenceServerException as error:
        code = (error.status() or "no status").rpartition(".")[2]
        raise _failed_call(url, code, error.message(), timeout) from error
    return {each.name: answer.as_numpy(each.name).tolist() for each in answer.get_response().outputs}


def _failed_call(url: str, code: str, details: str | None, timeout: float) -> Exception:
    """The error that a status of gRPC stands for."""
    if code == "DEADLINE_EXCEEDED":
        return _late(url, timeout)
    if code == "UNAVAILABLE":
        return _unreachable(url, details)
    if code == "UNIMPLEMENTED":
        return RuntimeError(f"{url} speaks another protocol; use {FORMS}.")
    return _refusal(url, code, details)


def _reason(body: bytes) -> str:
    """What a server says in JSON under "error", or else its first words."""
    text = body.decode(errors="replace")
    try:
        return " ".join(str(json.loads(text)["error"]).split())
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:200] or "no reason given"


def _refusal(url: str, code: int | str, reason: str | None) -> RuntimeError:
    return RuntimeError(f"{url} refuses ({code}): {reason}")


def _late(url: str, timeout: float) -> TimeoutError:
    return TimeoutError(
        f"{url} has not answered within {timeout:g} s; give it more time by timeout, or fewer pictures."
    )


def _unreachable(url: str, reason: Any) -> ConnectionError:
    return ConnectionError(f"{url} cannot be reached ({reason}); start the server or correct the address.")
