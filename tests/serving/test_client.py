import contextlib
import http.server
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit._internal.errors import OperationError
from keras_crossvit.cli import main as cli
from keras_crossvit.exporting.serving_requests import bytes_of_no_image, drawn_image, encoded
from keras_crossvit.serving import classify_on_server
from tests.helpers.backends import call
from tests.serving.fake_tensorflow_serving import FakeTensorFlowServing
from tests.serving.kserve_requests import run_documented_curl

URL_FORMS = pytest.mark.parametrize("form", ["http://127.0.0.1:{}/v1/models/letters", "grpc://127.0.0.1:{}/letters"])


@pytest.fixture(scope="module")
def server(letters):
    _, exported = letters
    with FakeTensorFlowServing(exported.path, "letters") as fake:
        yield fake


@pytest.fixture(params=["REST", "gRPC"])
def url(request, server):
    urls = {
        "REST": f"http://127.0.0.1:{server.port}/v1/models/letters",
        "gRPC": f"grpc://127.0.0.1:{server.grpc_port}/letters",
    }
    return urls[request.param]


def test_predictions_match_the_model(url, letters):
    model, _ = letters
    image = drawn_image()
    good, bad = classify_on_server(url, [encoded(image, "PNG"), b"not an image"])
    assert bad is None
    logits = call(model, kc.preprocess(image, model))[0]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert [each.class_id for each in good] == np.argsort(-probabilities).tolist()
    assert [each.name for each in good] == ["abcde"[each.class_id] for each in good]
    # One in a thousand preprocessed values differs by 1 of 255.
    np.testing.assert_allclose([each.probability for each in good], np.sort(probabilities)[::-1], rtol=0, atol=1e-4)


def test_documented_curl_sends_a_large_image(server, tmp_path):
    url = f"http://127.0.0.1:{server.port}/v1/models/letters:predict"
    answer = run_documented_curl("http://localhost:8501/v1/models/pets:predict", url, tmp_path)
    assert answer["outputs"]["valid"] == [True]


def test_command_prints_predictions_in_order_and_reports_unreadable_files(url, tmp_path, capsys):
    contents = {"one.jpg": encoded(drawn_image(), "JPEG"), "two.png": encoded(drawn_image()[::-1], "PNG")}
    for name, content in {**contents, "bad.jpg": bytes_of_no_image()[1]}.items():
        (tmp_path / name).write_bytes(content)
    names = ["one.jpg", "bad.jpg", "nowhere.png", *["two.png", "one.jpg"] * 8]
    paths = [str(tmp_path / name) for name in names]
    code = cli.main(["predict", "--server", url, *paths, "--top", "1", "--format", "csv"])
    shown = capsys.readouterr()
    assert code == cli.EXIT_MISTAKE
    _, *rows = shown.out.splitlines()
    assert [row.split(",")[0] for row in rows] == [paths[0], *paths[3:]]
    bad, missing, classified, summary = shown.err.splitlines()
    assert "bad.jpg" in bad
    assert "nowhere.png" in missing
    assert f"17 of 19 images with {url}" in classified
    assert "2 of 19" in summary


def test_rejections_have_the_reason_of_the_server(url):
    with pytest.raises(OperationError, match=r"\((404|NOT_FOUND)\): Servable not found"):
        classify_on_server(url.replace("letters", "numbers"), [b""])


@URL_FORMS
def test_unreachable_server_is_named(form):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(ConnectionError, match=str(port)):
            classify_on_server(form.format(port), [b""], timeout=5)


@URL_FORMS
def test_silent_server_times_out(form):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(TimeoutError, match=r"0\.3 s"):
            classify_on_server(form.format(silent.getsockname()[1]), [b""], timeout=0.3)


LIMIT = 2**20 + 2**16  # bytes of an answer for one image
OUTPUTS = '{{"outputs": {{"valid": [true], "class_ids": [[0]], "class_names": [["a"]], "probabilities": [[{}]]}}}}'


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("<html>", "Expecting value"),
        ("{}", "outputs"),
        ('{"outputs": [1]}', "list indices"),
        ('{"outputs": {"valid": [true, true]}}', "2 answers for 1"),
        *((OUTPUTS.format(value), str(float(value))) for value in ("-0.2", "7.5", "NaN", "Infinity")),
        (OUTPUTS.format("0.5, 0.5"), "zip"),
        (OUTPUTS.format(0.5).ljust(LIMIT + 1), f"more than {LIMIT:,} bytes"),
    ],
)
def test_answers_that_are_not_predictions_are_refused_in_one_line(answer, reason):
    with _server_that_says([answer.encode()]) as url, pytest.raises(ValueError, match=reason) as error:
        classify_on_server(url, [b""])
    assert isinstance(error.value, kc.CrossViTError)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", ["grpc://127.0.0.1:{}/letters", "grpc://127.0.0.1:{}/v2/models/letters"])
def test_answers_of_grpc_are_read_up_to_a_limit(form):
    with _grpc_server_that_says(bytes(LIMIT + 1)) as port, pytest.raises(OperationError, match=f"too large.*{LIMIT}"):
        classify_on_server(form.format(port), [b""])


def test_reasons_of_a_server_are_read_up_to_a_limit():
    parts = iter([b"A" * LIMIT] * 100)
    with _server_that_says(parts, 400) as url, pytest.raises(OperationError, match=r"A{500}$"):
        classify_on_server(url, [b""])
    assert next(parts, None) is not None


@pytest.mark.parametrize(
    "url",
    ["localhost:8501", "http://host/", "http://host/v1/models/", "grpc://host", "ftp://a/b", "grpc://a/b/versions/1"],
)
def test_other_urls_are_refused_with_the_known_forms(url):
    with pytest.raises(ValueError, match=rf"'{url}' .*http://HOST:8501/v1/models/NAME"):
        classify_on_server(url, [b""])


def test_answers_up_to_the_limit_are_read():
    with _server_that_says([OUTPUTS.format(0.5).ljust(LIMIT).encode()]) as url:
        assert classify_on_server(url, [b""]) == [[(0, "a", 0.5)]]


@contextlib.contextmanager
def _server_that_says(parts, code=200):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(code)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client reads no more
                self.wfile.writelines(parts)

        def log_message(self, *arguments):
            """Prints nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/models/letters"
        server.shutdown()


@contextlib.contextmanager
def _grpc_server_that_says(answer):
    class Anything(grpc.GenericRpcHandler):
        def service(self, handler_call_details):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: answer)

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([Anything()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(0).wait()
