"""The model inside MLServer, in a process of its own: MLServer cannot share one with tritonclient."""

import json
import re

import pytest

from keras_crossvit.exporting.serving_requests import drawn_image, encoded
from tests.helpers.exports import overflowing_model, small_model, write_export
from tests.helpers.processes import run_python

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from mlserver.context import model_context
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, RequestInput
from keras_crossvit.serving.mlserver_model import CrossViTModel
from keras_crossvit.serving.mlserver_setup import model_settings

def files(image, count):
    data = [Path(image).read_bytes()] * count
    return RequestInput(name="image_bytes", shape=[count], datatype="BYTES", data=data)

async def main(file, image, mode):
    options = {"loading": {"threads": 1}, "max_batch_size": 8, "max_batch_time": 0.5}
    options |= {"max_images": 8, "max_pixels": 1_000_000, "decoding_threads": 1}
    parameters = ModelParameters(uri=file, extra=options)
    settings = model_settings("letters", CrossViTModel, parameters=parameters)
    with model_context(settings):
        model = CrossViTModel(settings)
        await model.load()
        read, order = model._read, []
        model._read = lambda index, contents: order.append(index) or read(index, contents)
        pixels = RequestInput(name="image", shape=[1, 48, 48, 3], datatype="UINT8", data=[7] * 48 * 48 * 3)
        floats = RequestInput(name="image", shape=[1, 48, 48, 3], datatype="FP32", data=[7.0] * 48 * 48 * 3)
        requests = [files(image, count) for count in {"many": (8, 1), "image": (1,)}.get(mode, (1, 1, 1))]
        requests += [pixels, floats] if mode == "image" else []
        answers = []
        for each in requests:
            answers.append(asyncio.ensure_future(model.predict(InferenceRequest(inputs=[each]))))
            await asyncio.sleep(0)
        if mode == "cancel":
            await asyncio.sleep(0.2)
            answers[0].cancel()
        found = await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), 10)
        answers = [[type(each).__name__, getattr(each, "status_code", None), str(each)] for each in found]
        print(json.dumps([answers, order]))

image, *cases = sys.argv[1:]
for file, mode in zip(cases[::2], cases[1::2]):
    asyncio.run(main(file, image, mode))
"""


# Files and what is done with them.
CASES = [
    ("never unsure", "cancel"),
    ("never unsure", "many"),
    ("never unsure", "wait"),
    ("always unsure", "wait"),
    ("overflowing", "wait"),
    ("image", "image"),
]


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """For each case, the answers to requests at the same time, and the images' indices in the order of decoding."""
    folder = tmp_path_factory.mktemp("answered")
    for name, threshold in (("never unsure", 0.0), ("always unsure", 1.0)):
        model = small_model(calibration={"temperature": 2.0, "threshold": threshold})
        write_export(model, folder / f"{name}.tflite")
    write_export(overflowing_model(), folder / "overflowing.tflite")
    write_export(model, folder / "image.tflite", inputs="image")
    (folder / "image.png").write_bytes(encoded(drawn_image(), "PNG"))
    (folder / "program.py").write_text(PROGRAM)
    words = [word for name, mode in CASES for word in (folder / f"{name}.tflite", mode)]
    done = run_python(folder / "program.py", folder / "image.png", *words, cwd=folder)
    lines = done.stdout.splitlines()[-len(CASES) :]
    return dict(zip(CASES, map(json.loads, lines), strict=True))


def test_cancelled_request_leaves_the_others_in_its_batch(answered):
    answers, _ = answered["never unsure", "cancel"]
    assert [kind for kind, *_ in answers] == ["CancelledError", "InferenceResponse", "InferenceResponse"]


@pytest.mark.parametrize(("name", "expected"), [("never unsure", "False"), ("always unsure", "True")])
def test_an_image_below_the_threshold_is_unsure(name, expected, answered):
    answers, _ = answered[name, "wait"]
    for kind, _, answer in answers:
        assert kind == "InferenceResponse"
        assert re.findall(r"name='unsure'.*?root=\[(\w+)\]", answer) == [expected]


def test_a_request_does_not_wait_for_all_images_of_another(answered):
    answers, order = answered["never unsure", "many"]
    assert [kind for kind, *_ in answers] == ["InferenceResponse"] * 2
    first, second = (i for i, index in enumerate(order) if index == 0)
    assert (first, len(order)) == (0, 9)
    assert second <= 2  # of one image at a time, only those whose turn had come


def test_logits_of_an_image_that_are_not_finite_are_a_server_error(answered):
    answers, _ = answered["overflowing", "wait"]
    for _, code, message in answers:
        assert code == 500
        assert "not finite" in message


def test_file_of_an_image_takes_image_files_and_uint8_pixels(answered):
    answers, _ = answered["image", "image"]
    *kinds, (last, _, message) = answers
    assert [kind for kind, *_ in kinds] == ["InferenceResponse"] * 2
    assert last == "InferenceError"
    assert "image has dtype float32" in message


LARGE_BODIES = """
import asyncio
from keras_crossvit.serving import mlserver_limits

async def main():
    at_once, peak, small_done, finished = 0, 0, asyncio.Event(), []

    async def app(scope, receive, send):
        nonlocal at_once, peak
        size = len((await receive())["body"])
        if size < 100:
            small_done.set()
            return
        at_once += 1
        peak = max(peak, at_once)
        await small_done.wait()  # a small request is answered while large ones are not
        at_once -= 1
        finished.append(size)

    class Connection:
        def expect_request(self): pass
        def end_request(self): pass

    limited = mlserver_limits._BodyLimit(app, 2**25)

    async def request(size):
        messages = [{"type": "http.request", "body": bytes(size), "more_body": False}]
        scope = {"type": "http", "headers": [], "state": {mlserver_limits._CONNECTION: Connection()}}

        async def receive():
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(message): pass

        await limited(scope, receive, send)

    large = [asyncio.ensure_future(request(2**21)) for _ in range(20)]
    await asyncio.sleep(0.1)
    await asyncio.wait_for(request(10), 5)
    await asyncio.wait_for(asyncio.gather(*large), 5)
    print(peak, len(finished))

asyncio.run(main())
"""


def test_few_large_bodies_are_in_memory_at_once_and_small_ones_do_not_wait(tmp_path):
    assert run_python("-c", LARGE_BODIES, cwd=tmp_path).stdout.split() == ["8", "20"]
