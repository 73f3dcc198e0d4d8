import http.server
import json
import socket
import threading

import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.exporting.serving_requests import bytes_of_no_image, drawn_image, encoded
from keras_crossvit.serving import client
from keras_crossvit.serving.client import ask_server
from tests.helpers.backends import call
from tests.serving.requests_by_hand import ask_as_documented
from tests.serving.stand_in import StandIn


@pytest.fixture(scope="module")
def server(letters):
    _, exported = letters
    with StandIn(exported.path, "letters") as stand_in:
        yield stand_in


@pytest.fixture(params=["REST", "gRPC"])
def url(request, server):
    addresses = {
        "REST": f"http://127.0.0.1:{server.port}/v1/models/letters",
        "gRPC": f"grpc://127.0.0.1:{server.grpc_port}/letters",
    }
    return addresses[request.param]


@pytest.fixture
def files(tmp_path):
    contents = {"one.jpg": encoded(drawn_image(), "JPEG"), "two.png": encoded(drawn_image()[::-1], "PNG")}
    contents["bad.jpg"] = bytes_of_no_image()[1]
    for name, each in contents.items():
        (tmp_path / name).write_bytes(each)
    return tmp_path


def test_images_are_named_as_by_the_model(url, letters):
    model, _ = letters
    image = drawn_image()
    good, bad = ask_server(url, [encoded(image, "PNG"), b"no picture"])
    assert bad is None
    logits = call(model, kc.preprocess(image, model))[0]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert [each.class_id for each in good] == np.argsort(-probabilities).tolist()
    assert [each.name for each in good] == ["abcde"[each.class_id] for each in good]
    # One value in a thousand of the preprocessed picture is off by 1 of 255.
    np.testing.assert_allclose([each.probability for each in good], np.sort(probabilities)[::-1], rtol=0, atol=1e-4)


def test_documented_curl_sends_a_large_image(server, tmp_path):
    here = f"http://127.0.0.1:{server.port}/v1/models/letters:predict"
    answer = ask_as_documented("http://localhost:8501/v1/models/pets:predict", here, tmp_path)
    assert answer["outputs"]["valid"] == [True]


def test_command_prints_a_server_s_answers_and_names_what_it_could_not_read(url, files, capsys):
    names = ["one.jpg", "bad.jpg", "nowhere.png", "two.png"]
    code = cli.main(["predict", "--server", url, *(str(files / name) for name in names), "--top", "2"])
    shown = capsys.readouterr()
    assert code == cli.EXIT_MISTAKE
    lines = shown.out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(str(files / "one.jpg"))
    assert lines[2].startswith(str(files / "two.png"))
    errors = shown.err.splitlines()
    assert "bad.jpg' holds no picture" in errors[0]
    assert "nowhere.png" in errors[1]
    assert "2 of 4 pictures could not be read" in errors[2]


def test_image_that_is_named_twice_is_answered_twice(url, files, capsys):
    twice = [str(files / "one.jpg")] * 2
    assert cli.main(["predict", "--server", url, *twice, "--top", "1", "--format", "csv"]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split(",")[0] for row in rows] == twice


def test_requests_stay_below_what_servers_refuse_as_too_large(tmp_path, monkeypatch):
    sent = []

    def answer(url, images, *, timeout):
        sent.append([len(each) for each in images])
        return [[] for _ in images]

    monkeypatch.setattr(client, "ask_server", answer)
    monkeypatch.setattr(client, "_MOST_BYTES", 100)
    sizes = {"a": 60, "b": 50, "c": 30, "d": 400}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    paths = [tmp_path / name for name in ("a", "b", "nowhere", "c", "d")]
    answers = list(client.ask_about_files("http://server/v1/models/letters", paths))
    assert sent == [[60], [50, 30], [400]]
    assert [path for path, _ in answers] == paths
    assert isinstance(answers[2][1], FileNotFoundError)


def test_unknown_model_is_the_server_s_answer(url):
    with pytest.raises(RuntimeError, match=r"refuses \((404|NOT_FOUND)\): Servable not found"):
        ask_server(url.replace("letters", "numbers"), [b""])


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}/v1/models/letters", "grpc://127.0.0.1:{}/letters"])
def test_server_that_is_not_there_is_said_so(form):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = form.format(unused.getsockname()[1])
        with pytest.raises(ConnectionError, match=r"cannot be reached .* start the server or correct the address"):
            ask_server(url, [b""], timeout=5)


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}/v1/models/letters", "grpc://127.0.0.1:{}/letters"])
def test_server_that_keeps_silent_is_left(form):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(TimeoutError, match=r"127\.0\.0\.1:\d+/.* has not answered within 0\.3 s"):
            ask_server(form.format(silent.getsockname()[1]), [b""], timeout=0.3)


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b'{"outputs": [1]}', b'{"outputs": {"valid": [true, true]}}'])
def test_answers_of_something_else_are_refused(answer):
    with _server_that_says(answer) as url, pytest.raises(ValueError, match="something else than a CrossViT"):
        ask_server(url, [b""])


@pytest.mark.parametrize("probability", ["-0.2", "7.5", "NaN", "Infinity"])
def test_answers_that_hold_no_probabilities_are_refused(probability):
    outputs = f'{{"valid": [true], "class_ids": [[0]], "class_names": [["a"]], "probabilities": [[{probability}]]}}'
    answer = f'{{"outputs": {outputs}}}'.encode()
    with (
        _server_that_says(answer) as url,
        pytest.raises(ValueError, match=rf"{probability[:3].lower()}.* 0 to 1") as error,
    ):
        ask_server(url, [b""])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["localhost:8501", "http://host/", "http://host/v1/models/", "grpc://host", "ftp://a/b"]
)
def test_odd_addresses_are_refused_with_those_that_are_known(url):
    with pytest.raises(ValueError, match=r"is no address of a model; use http://HOST:8501/v1/models/NAME"):
        ask_server(url, [b""])


def test_command_without_a_image_says_so(files, capsys):
    assert cli.main(["predict", str(files / "model.keras")]) == cli.EXIT_MISTAKE
    assert "There is no picture for" in capsys.readouterr().err


class _server_that_says:  # noqa: N801, reads as a function
    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments):
                """Keeps the tests' output clean."""

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/v1/models/letters"

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()
