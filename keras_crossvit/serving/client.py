"""Asks a model server what pictures show."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import math
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import numpy as np

from keras_crossvit.checks import require_positive
from keras_crossvit.optional import require_library

SIGNATURE = INPUT = "image_bytes"
_AT_ONCE = 8  # files per request, far below what servers refuse as too large
FORMS = (
    "http://HOST:8501/v1/models/NAME or grpc://HOST:8500/NAME (TensorFlow Serving), or "
    "http://HOST:8080/v2/models/NAME (KServe v2, such as keras-crossvit serve)"
)


class Prediction(NamedTuple):
    """A class that a server named.

    Args:
        class_id: Number of the class.
        name: Its name.
        probability: 0 to 1.
    """

    class_id: int
    name: str
    probability: float


def ask_server(url: str, pictures: Sequence[bytes], *, timeout: float = 30.0) -> list[list[Prediction] | None]:
    """Sends the bytes of picture files to a model server.

    Args:
        url: `http://host:8501/v1/models/name` (TensorFlow Serving, also with `/versions/1`), `grpc://host:8500/name`
            (the same by gRPC, with the extra `serving`), or `http://host:8080/v2/models/name` (KServe v2, such as
            `keras-crossvit serve`).
        pictures: The bytes of one file each.
        timeout: Seconds to wait for an answer. Defaults to 30.

    Returns:
        For each picture the classes that the server names, most probable first, or None where the server could make no
        picture of the bytes.

    Raises:
        ConnectionError: the server is not there, or breaks off.
        ModuleNotFoundError: gRPC needs the extra `serving`; the message says how to install it.
        RuntimeError: the server refuses; the message holds its reason.
        TimeoutError: there is no answer in time.
        ValueError: the URL has another form, or the answer is no list of predictions.
    """
    require_positive("timeout", timeout)
    if not pictures:
        raise ValueError("There is no picture to ask about; give one or more.")
    address = urlsplit(url)
    kind = _kind(address, url)
    try:
        outputs = {"grpc": _by_grpc, "v1": _by_v1, "v2": _by_v2}[kind](url, address, list(pictures), timeout)
        return _predictions(outputs, len(pictures))
    except (KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{url} answers with something else than a CrossViT's predictions; export the model by keras-crossvit."
        ) from error


def ask_about_files(
    url: str, paths: Iterable[str | PathLike], *, timeout: float = 30.0
) -> Iterator[tuple[str | PathLike, list[Prediction] | Exception]]:
    """Sends picture files to a model server, eight at a time.

    Args:
        url: What `ask_server` takes, whose errors these are too.
        paths: The files.
        timeout: Seconds to wait for each answer. Defaults to 30.

    Yields:
        Each path with the classes that the server names, or with the reason why there are none.
    """
    remaining = iter(paths)
    while some := list(itertools.islice(remaining, _AT_ONCE)):
        contents: dict[str | PathLike, bytes] = {}
        for path in some:
            try:
                contents[path] = Path(path).read_bytes()
            except OSError as error:
                yield path, error
        answers = ask_server(url, list(contents.values()), timeout=timeout) if contents else []
        for path, answer in zip(contents, answers, strict=True):
            unknown = ValueError(f"'{path}' holds no picture that {url} can read; send a whole JPEG or PNG.")
            yield path, unknown if answer is None else answer


def _kind(address: SplitResult, url: str) -> str:
    """How to ask: "grpc", or by the version of the protocol over HTTP, "v1" or "v2"."""
    over_http = re.fullmatch(r"/(v[12])/models/[^/]+(/versions/[^/]+)?/?", address.path)
    if address.hostname and address.scheme in ("http", "https") and over_http:
        return over_http[1]
    if address.hostname and address.scheme == "grpc" and re.fullmatch("/[^/]+/?", address.path):
        return "grpc"
    raise ValueError(f"'{url}' is no address of a model; use {FORMS}.")


def _by_v1(url: str, address: SplitResult, pictures: list[bytes], timeout: float) -> dict[str, Any]:
    instances = [{"b64": base64.b64encode(each).decode()} for each in pictures]
    body = {"signature_name": SIGNATURE, "inputs": {INPUT: instances}}
    return _post(f"{url.rstrip('/')}:predict", body, timeout)["outputs"]


def _by_v2(url: str, address: SplitResult, pictures: list[bytes], timeout: float) -> dict[str, Any]:
    data = [base64.b64encode(each).decode() for each in pictures]
    body = {"inputs": [{"name": INPUT, "shape": [len(data)], "datatype": "BYTES", "data": data}]}
    answer = _post(f"{url.rstrip('/')}/infer", body, timeout)
    return {each["name"]: np.reshape(each["data"], each["shape"]).tolist() for each in answer["outputs"]}


def _post(url: str, body: dict[str, Any], timeout: float) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{url} refuses ({error.code}): {_reason(error.read())}") from error
    except (TimeoutError, urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise TimeoutError(_late(url, timeout)) from error
        raise ConnectionError(_unreachable(url, reason)) from error


def _by_grpc(url: str, address: SplitResult, pictures: list[bytes], timeout: float) -> dict[str, Any]:
    grpc = require_library("grpc", "serving")
    predict_pb2 = require_library("tensorflow_serving.apis.predict_pb2", "serving")
    stubs = require_library("tensorflow_serving.apis.prediction_service_pb2_grpc", "serving")
    tensors = require_library("tensorflow").make_tensor_proto, require_library("tensorflow").make_ndarray
    request = predict_pb2.PredictRequest()
    request.model_spec.name = address.path.strip("/")
    request.model_spec.signature_name = SIGNATURE
    request.inputs[INPUT].CopyFrom(tensors[0](pictures, dtype="string", shape=[len(pictures)]))
    options = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
    try:
        with grpc.insecure_channel(address.netloc, options=options) as channel:
            answer = stubs.PredictionServiceStub(channel).Predict(request, timeout=timeout)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise TimeoutError(_late(url, timeout)) from error
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            raise ConnectionError(_unreachable(url, error.details())) from error
        raise RuntimeError(f"{url} refuses ({error.code().name}): {error.details()}") from error
    return {name: tensors[1](tensor).tolist() for name, tensor in answer.outputs.items()}


def _predictions(outputs: dict[str, Any], count: int) -> list[list[Prediction] | None]:
    columns = [outputs[name] for name in ("valid", "class_ids", "class_names", "probabilities")]
    if {len(column) for column in columns} != {count}:
        raise ValueError(f"The server answers for {len(columns[0])} pictures where {count} were sent.")
    answers: list[list[Prediction] | None] = []
    for is_valid, ids, names, probabilities in zip(*columns, strict=True):
        rows = [
            Prediction(int(i), name.decode() if isinstance(name, bytes) else str(name), float(probability))
            for i, name, probability in zip(ids, names, probabilities, strict=True)
        ]
        if any(not math.isfinite(row.probability) for row in rows):
            raise ValueError("The server answers with probabilities that are not finite; look at its model.")
        answers.append(rows if is_valid else None)
    return answers


def _reason(body: bytes) -> str:
    """What a server says in JSON under "error", or else its first words."""
    text = body.decode(errors="replace")
    try:
        return " ".join(str(json.loads(text)["error"]).split())
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:200] or "no reason given"


def _late(url: str, timeout: float) -> str:
    return f"{url} has not answered within {timeout:g} s; give it more time by timeout, or fewer pictures."


def _unreachable(url: str, reason: Any) -> str:
    return f"{url} cannot be reached ({reason}); start the server or correct the address."
