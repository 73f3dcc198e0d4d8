"""`keras-crossvit serve` under load while its model is replaced, and while servers take turns."""

import contextlib
import http.client
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_crossvit.exporting.serving_requests import drawn_image, encoded
from keras_crossvit.serving import classify_on_server
from tests.helpers.exports import confident_model, write_export
from tests.serving.kserve_requests import TIMEOUT, bytes_tensor, infer, outputs_of
from tests.serving.load_balancer import is_ready, taking_turns
from tests.serving.server_process import serving

PHOTO = encoded(drawn_image(), "JPEG")
# Takes a tenth of a second to decode, and a few kilobytes.
LARGE = encoded(np.zeros((4000, 4000), "uint8"), "PNG")
CLIENTS = 8


@pytest.fixture(scope="module")
def versions(letters_litert, tmp_path_factory):
    """Files of two models that differ in their answers."""
    model = confident_model()
    head = model.get_layer("large_patch_head").kernel
    head.assign(-head)
    return letters_litert, write_export(model, tmp_path_factory.mktemp("new") / "new.tflite")


@pytest.fixture
def served(versions, tmp_path):
    """A link to the first model, which another can replace at once."""
    link = tmp_path / "letters.tflite"
    link.symlink_to(versions[0])
    return link


def replace(link, target):
    new = link.with_name("new link")
    new.symlink_to(target)
    new.replace(link)


def answer_of(url):
    (classes,) = classify_on_server(url, [PHOTO])
    return round(max(each.probability for each in classes), 3)


def until_refused(url):
    """Asks until the server's port is closed."""
    with contextlib.suppress(ConnectionError):
        while True:
            answer_of(url)
            time.sleep(0.1)


@contextlib.contextmanager
def asking(*choices):
    """Asks from many clients, that choose URLs by these functions, and yields the answers, with the times of asking."""
    answers, done = [], threading.Event()

    def ask(choose):
        while not done.is_set():
            start = time.monotonic()
            answers.append((start, answer_of(choose())))

    with ThreadPoolExecutor(CLIENTS) as threads:
        asked = [threads.submit(ask, choices[number % len(choices)]) for number in range(CLIENTS)]
        try:
            yield answers
        finally:
            done.set()
        for each in asked:
            each.result()  # raises if a request has failed


def test_a_model_is_replaced_without_a_failed_request(served, versions):
    with serving(served) as server:
        with asking(lambda: server.rest, lambda: server.grpc) as answers:
            old = answer_of(server.rest)
            for target in (versions[1], versions[0], versions[1]):
                before = answer_of(server.rest)
                replace(served, target)
                os.kill(server.pid, signal.SIGHUP)
                while answer_of(server.rest) == before:
                    pass
            replaced = time.monotonic()
            new = answer_of(server.rest)
            time.sleep(0.5)
        assert old != new
        assert {answer for _, answer in answers} == {old, new}
        assert {answer for start, answer in answers if start > replaced} == {new}


def test_a_model_that_cannot_be_served_replaces_none(served, tmp_path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(b"no model")
    with serving(served) as server:
        before = answer_of(server.rest)
        for target in (damaged, tmp_path / "nowhere.tflite"):
            replace(served, target)
            os.kill(server.pid, signal.SIGHUP)
            time.sleep(3)
            assert answer_of(server.rest) == before
    assert server.printed[0].count("The model is not replaced: ") == 2
    assert "Traceback" not in server.printed[0]


def test_a_server_that_ends_is_not_ready_and_answers_for_a_while(versions):
    with serving(versions[0], "--drain-time", 5, ended_by=signal.SIGTERM) as server:
        kept = http.client.HTTPConnection(*server.rest.split("/")[2].split(":"), timeout=TIMEOUT)
        kept.request("GET", "/v2/health/ready")
        kept.getresponse().read()
        assert is_ready(server.rest)
        os.kill(server.pid, signal.SIGTERM)
        while is_ready(server.rest):
            pass
        kept.request("GET", "/v2/models/letters")
        with kept.getresponse() as answer:
            assert answer.status == 200
            assert answer.headers["Connection"] == "close"
        assert answer_of(server.rest) == answer_of(server.grpc)
        until_refused(server.rest)
        for _ in range(100):  # at any moment of its end, the same signal does not change its exit code
            os.kill(server.pid, signal.SIGTERM)
            time.sleep(0.01)


def test_a_server_that_ends_answers_the_requests_that_it_has(versions):
    options = ["--drain-time", 0, "--decoding-threads", 1]
    with serving(versions[0], *options, ended_by=signal.SIGTERM) as server, ThreadPoolExecutor(2) as threads:
        slow = [
            threads.submit(infer, server.rest, [bytes_tensor([LARGE] * 6)]),
            threads.submit(classify_on_server, server.grpc, [LARGE] * 6),
        ]
        time.sleep(0.4)
        assert not any(each.done() for each in slow)
        os.kill(server.pid, signal.SIGTERM)
        until_refused(server.rest)
        assert outputs_of(slow[0].result())["valid"].all()
        assert all(slow[1].result())


def test_servers_take_turns_without_a_failed_request(versions):
    old, new = versions
    with taking_turns([old, new, old], drain_time=1) as (balancer, turns):
        next(turns)
        with asking(balancer.url) as answers:
            found = [answer_of(balancer.url())]
            for _ in turns:
                found.append(answer_of(balancer.url()))
        assert found[1] != found[0] == found[2]
        assert {answer for _, answer in answers} == set(found)
