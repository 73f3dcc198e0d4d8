"""Asks a model server what pictures show."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from keras_crossvit.checks import require_positive
from keras_crossvit.data.predictions import ROUNDING
from keras_crossvit.serving.picture_service import CLASS_IDS, CLASS_NAMES, PROBABILITIES, VALID
from keras_crossvit.serving.protocols import protocol_of

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


def ask_server(url: str, pictures: Sequence[bytes], *, timeout: float = 30.0) -> list[list[Prediction] | None]:
    """Sends the bytes of picture files to a model server.

    Args:
        url: `http://host:8501/v1/models/name` (TensorFlow Serving, also with `/versions/1`) or `grpc://host:8500/name`
            (the same by gRPC, with the extra `serving`); or `http://host:8080/v2/models/name` (KServe v2, such as
            `keras-crossvit serve`) or `grpc://host:8081/v2/models/name` (the same by gRPC, with the extra `kserve`).
        pictures: The bytes of one file each.
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
    if not pictures:
        raise ValueError("There is no picture to ask about; give one or more.")
    ask = protocol_of(url)
    try:
        return _predictions(ask(list(pictures), timeout), len(pictures))
    except (KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
        raise ValueError(
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
        raise ValueError(f"The server answers for {len(columns[0])} pictures where {count} were sent.")
    answers: list[list[Prediction] | None] = []
    for is_valid, ids, names, probabilities in zip(*columns, strict=True):
        rows = [
            Prediction(int(i), name.decode() if isinstance(name, bytes) else str(name), float(probability))
            for i, name, probability in zip(ids, names, probabilities, strict=True)
        ]
        if strange := [row.probability for row in rows if not -ROUNDING <= row.probability <= 1 + ROUNDING]:
            raise ValueError(
                f"The server answers with the probability {strange[0]}, which is outside 0 to 1; check its model."
            )
        answers.append(rows if is_valid else None)
    return answers
