"""Asks a model server what pictures show."""

from __future__ import annotations

import base64
import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import numpy as np

from keras_crossvit._internal.checks import require_positive
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.optional import require_library
from keras_crossvit.preprocessing.predictions import ROUNDING
from keras_crossvit.runtimes.signature_names import BYTES_NAME, CLASS_IDS, CLASS_NAMES, PROBABILITIES, VALID

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
            return lambda images, timeout: ask(url.rstrip("/"), address, found.groupdict(), images, timeout)
    raise InvalidValueError(f"'{url}' is no address of a model; use {FORMS}.")


def _by_tensorflow_rest(
    url: str, address: SplitResult, model: dict[str, str | None], images: list[bytes], timeout: float
) -> dict[str, Any]:
    instances = [{"b64": each} for each in _in_base64(images)]
    return _post(f"{url}:predict", {"signature_name": BYTES_NAME, "inputs": {BYTES_NAME: instances}}, timeout)[
        "outputs"
    ]


def _by_kserve_rest(
    url: str, address: SplitResult, model: dict[str, str | None], images: list[bytes], timeout: float
) -> dict[str, Any]:
    tensor = {"name": BYTES_NAME, "shape": [len(images)], "datatype": "BYTES", "data": _in_base64(images)}
    answer = _post(f"{url}/infer", {"inputs": [tensor]}, timeout)
    return {each["name"]: np.reshape(each["data"], each["shape"]).tolist() for each in answer["outputs"]}


def _in_base64(images: list[bytes]) -> list[str]:
    return [base64.b64encode(each).decode() for each in images]


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
    url: str, address: SplitResult, model: dict[str, str | None], images: list[bytes], timeout: float
) -> dict[str, Any]:
    grpc = require_library("grpc", "serving")
    predict_pb2 = require_library("tensorflow_serving.apis.predict_pb2", "serving")
    stubs = require_library("tensorflow_serving.apis.prediction_service_pb2_grpc", "serving")
    tensorflow = require_library("tensorflow")
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model["name"]
    request.model_spec.signature_name = BYTES_NAME
    request.inputs[BYTES_NAME].CopyFrom(tensorflow.make_tensor_proto(images, dtype="string", shape=[len(images)]))
    options = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
    try:
        with grpc.insecure_channel(address.netloc, options=options) as channel:
            answer = stubs.PredictionServiceStub(channel).Predict(request, timeout=timeout)
    except grpc.RpcError as error:
        raise _failed_call(url, error.code().name, error.details(), timeout) from error
    return {name: tensorflow.make_ndarray(tensor).tolist() for name, tensor in answer.outputs.items()}


def _by_kserve_grpc(
    url: str, address: SplitResult, model: dict[str, str | None], images: list[bytes], timeout: float
) -> dict[str, Any]:
    client = require_library("tritonclient.grpc", "kserve")
    tensor = client.InferInput(BYTES_NAME, [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, dtype=object))
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


# Files and bytes of a request, below what servers refuse as too large; a larger file goes alone.
_AT_ONCE = 8
_MOST_BYTES = 32 * 2**20


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


def ask_server(url: str, images: Sequence[bytes], *, timeout: float = 30.0) -> list[list[Prediction] | None]:
    """Sends the bytes of picture files to a model server.

    Args:
        url: `http://host:8501/v1/models/name` (TensorFlow Serving, also with `/versions/1`) or `grpc://host:8500/name`
            (the same by gRPC, with the extra `serving`); or `http://host:8080/v2/models/name` (KServe v2, such as
            `keras-crossvit serve`) or `grpc://host:8081/v2/models/name` (the same by gRPC, with the extra `kserve`).
        images: The bytes of one file each.
        timeout: Seconds to wait for an answer. Defaults to 30.

    Returns:
        For each picture the classes that the server names, most probable first, or None where the server could make no
        picture of the bytes.

    Raises:
        ConnectionError: the server is not there, or breaks off.
        ModuleNotFoundError: gRPC needs an extra; the message says how to install it.
        RuntimeError: the server refuses; the message holds its reason.
        TimeoutError: there is no answer in time.
        ValueError: the URL has another form, or the answer is no list of predictions.
    """
    require_positive("timeout", timeout)
    if not images:
        raise InvalidValueError("There is no picture to ask about; give one or more.")
    ask = protocol_of(url)
    try:
        return _predictions(ask(list(images), timeout), len(images))
    except (KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
        raise InvalidValueError(
            f"{url} answers with something else than a CrossViT's predictions; export the model by keras-crossvit."
        ) from error


def ask_about_files(
    url: str, paths: Iterable[str | PathLike], *, timeout: float = 30.0
) -> Iterator[tuple[str | PathLike, list[Prediction] | Exception]]:
    """Sends picture files to a model server, up to eight at a time.

    Args:
        url: What `ask_server` takes, whose errors these are too.
        paths: The files.
        timeout: Seconds to wait for each answer. Defaults to 30.

    Yields:
        Each path with the classes that the server names, or with the reason why there are none.
    """
    for some in _requests(paths):
        contents = [content for _, content in some if isinstance(content, bytes)]
        answers = iter(ask_server(url, contents, timeout=timeout) if contents else [])
        for path, content in some:
            if isinstance(content, OSError):
                yield path, content
                continue
            answer = next(answers)
            unknown = ValueError(f"'{path}' holds no picture that {url} can read; send a whole JPEG or PNG.")
            yield path, unknown if answer is None else answer


def _requests(paths: Iterable[str | PathLike]) -> Iterator[list[tuple[str | PathLike, bytes | OSError]]]:
    """Files with their bytes, or with why there are none: as many at once as one request takes."""
    some: list[tuple[str | PathLike, bytes | OSError]] = []
    size = 0
    for path in paths:
        try:
            content: bytes | OSError = Path(path).read_bytes()
        except OSError as error:
            content = error
        length = len(content) if isinstance(content, bytes) else 0
        if some and (len(some) == _AT_ONCE or size + length > _MOST_BYTES):
            yield some
            some, size = [], 0
        some.append((path, content))
        size += length
    if some:
        yield some


def _predictions(outputs: dict[str, Any], count: int) -> list[list[Prediction] | None]:
    columns = [outputs[name] for name in (VALID, CLASS_IDS, CLASS_NAMES, PROBABILITIES)]
    if {len(column) for column in columns} != {count}:
        raise InvalidValueError(f"The server answers for {len(columns[0])} pictures where {count} were sent.")
    answers: list[list[Prediction] | None] = []
    for is_valid, ids, names, probabilities in zip(*columns, strict=True):
        rows = [
            Prediction(int(i), name.decode() if isinstance(name, bytes) else str(name), float(probability))
            for i, name, probability in zip(ids, names, probabilities, strict=True)
        ]
        if strange := [row.probability for row in rows if not -ROUNDING <= row.probability <= 1 + ROUNDING]:
            raise InvalidValueError(
                f"The server answers with the probability {strange[0]}, which is outside 0 to 1; check its model."
            )
        answers.append(rows if is_valid else None)
    return answers
