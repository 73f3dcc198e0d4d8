"""The limits of `keras-crossvit serve`, on a server with small ones."""

import contextlib
import gzip
import http.client
import json
import re
import socket
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc

from keras_crossvit.exporting.serving_requests import bytes_of_no_image, drawn_image, encoded
from keras_crossvit.serving import classify_on_server
from tests.serving.kserve_requests import TIMEOUT, bytes_tensor, infer, outputs_of, post, tensors
from tests.serving.server_process import serving

MAX_BYTES = 1_000_000
MAX_IMAGES = 8
MAX_PIXELS = 16_000_000
REQUEST_TIMEOUT = 2
SLACK = 5  # seconds that a busy machine may take longer
POST = b"POST /v2/models/letters/infer HTTP/1.1\r\nHost: localhost\r\n"
PHOTO = encoded(drawn_image(), "JPEG")
# Takes a tenth of a second to decode, and a few kilobytes.
LARGE = encoded(np.zeros((4000, 4000), "uint8"), "PNG")
SLOW = encoded(np.zeros((2000, 2000), "uint8"), "PNG")  # some hundredths
TOO_LARGE = encoded(np.zeros((4001, 4000), "uint8"), "PNG")


@pytest.fixture(scope="module")
def server(letters_litert):
    limits = {
        "--max-request-bytes": MAX_BYTES,
        "--max-images": MAX_IMAGES,
        "--max-pixels": MAX_PIXELS,
        "--request-timeout": REQUEST_TIMEOUT,
        "--decoding-threads": 1,
    }
    with serving(letters_litert, *(word for option in limits.items() for word in option)) as started:
        yield started


@pytest.fixture(scope="module")
def url(server):
    return server.rest


def request_of(size):
    """A valid request of `size` bytes."""
    return json.dumps({"inputs": [bytes_tensor([PHOTO])]}).encode().ljust(size)


def chunks_of(body):
    """The body in parts, which are sent without Content-Length."""
    return (body[start : start + 50_000] for start in range(0, len(body), 50_000))


@pytest.mark.parametrize(
    ("sent", "headers"),
    [
        (lambda body: body, {}),
        (chunks_of, {}),
        (gzip.compress, {"Content-Encoding": "gzip"}),
        (lambda body: chunks_of(gzip.compress(body)), {"Content-Encoding": "gzip"}),
    ],
    ids=["content-length", "chunked", "gzip", "chunked gzip"],
)
def test_larger_bodies_are_answered_413(sent, headers, url):
    assert outputs_of(post(f"{url}/infer", sent(request_of(MAX_BYTES)), **headers))["valid"].all()
    code, answer = post(f"{url}/infer", sent(request_of(MAX_BYTES + 1)), **headers)
    assert code == 413
    for part in ("1,000,001 bytes", "1,000,000", "--max-request-bytes"):
        assert part in answer["error"]


def test_client_that_asks_first_is_answered_413_before_it_sends_a_body(url):
    with socket.create_connection(_address(url), timeout=TIMEOUT) as client:
        client.sendall(POST + b"Content-Length: 1000001\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_bodies_that_are_not_gzip_are_rejected(url):
    for body in (b"{}", gzip.compress(request_of(0))[:-9]):
        code, answer = post(f"{url}/infer", body, **{"Content-Encoding": "gzip"})
        assert code == 400
        assert "gzip" in answer["error"]


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_larger_messages_are_exhausted_resources(compression, server):
    def ask(file):
        tensor = tritonclient.grpc.InferInput("image_bytes", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([file], dtype=object))
        with tritonclient.grpc.InferenceServerClient(server.grpc.split("/")[2]) as client:
            client.infer("letters", [tensor], client_timeout=TIMEOUT, compression_algorithm=compression)

    ask(PHOTO.ljust(MAX_BYTES - 1000, b"\0"))  # the message also has names and lengths
    with pytest.raises(tritonclient.grpc.InferenceServerException, match="larger than max") as error:
        ask(PHOTO.ljust(MAX_BYTES, b"\0"))
    assert error.value.status() == "StatusCode.RESOURCE_EXHAUSTED"


def test_more_images_are_rejected(url):
    assert outputs_of(infer(url, [bytes_tensor([PHOTO] * MAX_IMAGES)]))["valid"].all()
    for inputs in ([bytes_tensor([b""] * 9)], tensors([np.zeros((9, side, side, 3)) for side in (48, 32)])):
        code, answer = infer(url, inputs)
        assert code == 400
        for part in ("9 images", "at most 8", "--max-images"):
            assert part in answer["error"]


def test_larger_images_are_rejected_before_any_is_decoded(url):
    assert outputs_of(infer(url, [bytes_tensor([LARGE])]))["valid"].all()
    code, answer = infer(url, [bytes_tensor([PHOTO, TOO_LARGE])])
    assert code == 400
    for part in ("image_bytes[1]", "16,004,000", "16,000,000 pixels", "--max-pixels"):
        assert part in answer["error"]
    assert "\n" not in answer["error"]
    # Beyond Pillow's own limit an image is one that cannot be read.
    outputs = outputs_of(infer(url, [bytes_tensor([PHOTO, bytes_of_no_image()[2]])]))
    assert list(outputs["valid"]) == [True, False]


@pytest.mark.parametrize(
    ("start", "repeated"),
    [
        (b"", b""),
        (POST, b"A: b\r\n"),
        (POST + b"Content-Length: 1000\r\n\r\n", b""),
        (POST + b"Content-Length: 1000\r\n\r\n", b" "),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"GET /v2/models/letters HTTP/1.1\r\nHost: localhost\r\n\r\n" + POST, b"A: b\r\n"),
        (POST + b"Content-Length: 1000000000\r\n\r\n", b" "),
    ],
    ids=["nothing", "headers", "no body", "body", "chunks", "second request", "refused body"],
)
def test_slow_clients_are_cut_off(start, repeated, server):
    with socket.create_connection(_address(server.rest), timeout=REQUEST_TIMEOUT + SLACK) as client:
        client.sendall(start)
        _require_closed(client, repeated)


def test_slow_clients_cost_others_nothing(server):
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(socket.create_connection(_address(server.rest)))
            client.sendall(POST + b"Content-Length: 1000\r\n\r\n")
            stack.enter_context(socket.create_connection(_address(server.grpc)))
        for url in (server.rest, server.grpc):
            assert classify_on_server(url, [PHOTO], timeout=REQUEST_TIMEOUT)[0] is not None


def test_slow_grpc_clients_are_cut_off(server):
    with socket.create_connection(_address(server.grpc), timeout=REQUEST_TIMEOUT + SLACK) as silent:
        _require_closed(silent, b"")
    started = time.monotonic()
    with grpc.insecure_channel("{}:{}".format(*_address(server.grpc))) as channel:
        infer_slowly = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as error:
            infer_slowly(_nothing_for(TIMEOUT))
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - started < 2.2 * REQUEST_TIMEOUT + SLACK  # gRPC varies the time by a tenth


def test_connection_is_kept_between_requests(url):
    with contextlib.closing(http.client.HTTPConnection(*_address(url), timeout=TIMEOUT)) as connection:
        for _ in range(5):  # longer than a request may take
            connection.request("GET", "/v2/models/letters")
            first = connection.sock
            with connection.getresponse() as answer:
                assert answer.read()
            time.sleep(0.3 * REQUEST_TIMEOUT)
            assert connection.sock is first is not None


def test_images_are_decoded_in_a_few_threads_beside_the_event_loop(server):
    classify_on_server(server.rest, [PHOTO])  # starts the threads that remain
    before, answers = _threads(server.pid), 0
    with ThreadPoolExecutor(2) as threads:
        decoding = [threads.submit(infer, server.rest, [bytes_tensor([SLOW] * MAX_IMAGES)]) for _ in range(2)]
        while not all(each.done() for each in decoding):
            urllib.request.urlopen(f"{server.rest}/ready", timeout=TIMEOUT).close()
            answers += 1
    assert all(outputs_of(each.result())["valid"].all() for each in decoding)
    assert answers > 5 * MAX_IMAGES  # several during each image, and not only between them
    assert _threads(server.pid) == before


def _address(url):
    host, port = url.split("/")[2].split(":")
    return host, int(port)


def _require_closed(client, repeated):
    """Fails unless the server closes the connection in time, while it gets bytes again and again."""
    started = time.monotonic()
    client.settimeout(0.2)
    while time.monotonic() - started < REQUEST_TIMEOUT + SLACK:
        try:
            client.sendall(repeated)
            if not client.recv(100_000):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    else:
        pytest.fail("The connection is still open.")
    assert time.monotonic() - started > REQUEST_TIMEOUT / 2


def _nothing_for(seconds):
    """Yields nothing, after a while: gRPC ends the request then."""
    time.sleep(seconds)
    yield from ()


def _threads(pid):
    return int(re.search(r"Threads:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
