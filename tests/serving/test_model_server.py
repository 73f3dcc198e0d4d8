"""`keras-crossvit serve` as a process, asked by HTTP and gRPC."""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from mlserver.grpc import dataplane_pb2, dataplane_pb2_grpc

from keras_crossvit import cli
from keras_crossvit.export.requests import bytes_of_no_picture, drawn_picture, encoded
from keras_crossvit.serving.client import ask_server
from tests.helpers.backends import call
from tests.helpers.models import images
from tests.helpers.processes import PROJECT

PHOTOGRAPH = encoded(drawn_picture(), "JPEG")


@pytest.fixture(scope="module")
def ports():
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return dict(zip(("http", "grpc", "metrics"), (each.getsockname()[1] for each in sockets), strict=True))


@pytest.fixture(scope="module")
def url(letters, ports):
    _, exported = letters
    command = [sys.executable, "-m", "keras_crossvit", "serve", str(exported.path.parent), "--name", "letters"]
    command += ["--port", ports["http"], "--grpc-port", ports["grpc"], "--metrics-port", ports["metrics"]]
    command += ["--max-batch-size", 8, "--max-batch-time", 0.1, "--threads", 1]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    address = f"http://127.0.0.1:{ports['http']}/v2/models/letters"
    with subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/ready", timeout=5).close()
                break
            assert process.poll() is None, process.stdout.read().decode()
            time.sleep(0.1)
        yield address
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=30)
        assert process.returncode == cli.EXIT_INTERRUPTED
        assert printed.rstrip().endswith(b"no unfinished file is left behind.")  # the command's own line is the last


def test_tensors_get_the_model_s_logits(url, letters):
    model, _ = letters
    inputs = images(model, batch=3, seed=2)
    outputs = _outputs(_post(url, [_tensor(*each) for each in zip(_names(), inputs, strict=True)]))
    np.testing.assert_allclose(outputs["logits"], call(model, inputs), rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-6)


def test_tensors_get_the_same_by_grpc(url, ports, letters):
    model, _ = letters
    inputs = images(model, batch=2, seed=3)
    request = dataplane_pb2.ModelInferRequest(model_name="letters")
    for name, image in zip(_names(), inputs, strict=True):
        request.inputs.add(name=name, datatype="FP32", shape=image.shape)
        request.raw_input_contents.append(image.tobytes())
    answer = _ask_by_grpc(ports, request)
    logits = np.frombuffer(answer.raw_output_contents[0], "float32").reshape(2, 5)
    np.testing.assert_allclose(logits, call(model, inputs), rtol=0, atol=1e-5)


def test_nan_and_unknown_models_are_refused_by_grpc(url, ports, letters):
    model, _ = letters
    request = dataplane_pb2.ModelInferRequest(model_name="letters")
    for name, image in zip(_names(), images(model), strict=True):
        request.inputs.add(name=name, datatype="FP32", shape=image.shape)
        request.raw_input_contents.append((image * np.nan).tobytes())
    with pytest.raises(grpc.RpcError, match="small_patch_image has values that are not finite"):
        _ask_by_grpc(ports, request)
    request.model_name = "numbers"
    with pytest.raises(grpc.RpcError, match=r"Model numbers .*not found"):
        _ask_by_grpc(ports, request)


def test_bytes_are_named_and_bad_ones_explained(url):
    files = [*bytes_of_no_picture(), PHOTOGRAPH]
    outputs = _outputs(_post(url, [_bytes(files)]))
    assert outputs["valid"].tolist() == [False, False, False, False, True]
    reasons = ["no known format", "no whole picture", "pixels", "no known format", ""]
    for number, reason in enumerate(reasons):
        assert reason in outputs["error"][number]
        assert (f"image_bytes[{number}]" in outputs["error"][number]) == bool(reason)
    assert outputs["class_ids"][:4].tolist() == [[-1] * 5] * 4
    assert sorted(outputs["class_names"][4]) == list("abcde")
    assert ask_server(url, files)[:4] == [None] * 4


def test_requests_that_come_together_are_classified_together_and_none_suffers_from_another(url, ports, letters):
    model, _ = letters
    wrong = [_tensor(name, image[:, :20]) for name, image in zip(_names(), images(model), strict=True)]
    alone = ask_server(url, [PHOTOGRAPH])
    before = _batches(ports)
    with ThreadPoolExecutor(12) as threads:
        good = [threads.submit(ask_server, url, [PHOTOGRAPH]) for _ in range(24)]
        bad = [threads.submit(_post, url, wrong) for _ in range(6)]
    assert {each.result()[0] for each in bad} == {400}
    for each in good:
        for one, other in zip(each.result()[0], alone[0], strict=True):
            assert one[:2] == other[:2]
            assert one.probability == pytest.approx(other.probability, abs=1e-5)
    batches, pictures = np.subtract(_batches(ports), before)
    assert pictures == 24
    assert batches < 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"shape": [1, 48, 40, 3], "data": [0.0] * 5760},
            "of shape (1, 48, 40, 3) does not fit the model, which takes",
        ),
        ({"shape": [48, 48, 3]}, "of shape (48, 48, 3) does not fit"),
        ({"shape": [2, 48, 48, 3]}, "comes with 6912 values; give as many as it has"),
        ({"shape": [0, 48, 48, 3], "data": []}, "do not pair"),
        ({"datatype": "INT64", "data": [0] * 6912}, "is of datatype INT64; give normalised values as FP32"),
        ({"data": ["x"] * 6912}, "holds something else than numbers"),
        ({"name": "picture"}, "are not what the model takes; give either small_patch_image and large_patch_image, or"),
    ],
)
def test_bad_tensors_are_refused_with_their_reason_and_the_server_goes_on(change, message, url, letters):
    model, _ = letters
    small, large = (_tensor(*each) for each in zip(_names(), images(model, batch=1), strict=True))
    code, answer = _post(url, [{**small, **change}, large])
    assert code == 400
    assert message in answer["error"]
    assert ask_server(url, [PHOTOGRAPH])[0] is not None


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"shape": [0], "data": []}, "The batch is empty"),
        ({"shape": [2], "data": ["aaaa"]}, "comes with 1 elements; give the shape [pictures]"),
        ({"shape": [1], "datatype": "FP32", "data": [1.0]}, "is of datatype FP32; give the bytes of files as BYTES"),
    ],
)
def test_bad_bytes_are_refused_with_their_reason(tensor, message, url):
    code, answer = _post(url, [{"name": "image_bytes", "datatype": "BYTES", **tensor}])
    assert code == 400
    assert message in answer["error"]


def test_what_is_no_base64_or_no_json_is_refused(url):
    outputs = _outputs(_post(url, [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": ["#"]}]))
    assert "is not base64" in outputs["error"][0]
    assert _post(url, None, body=b"{no json")[0] == 422
    assert _post(url.replace("letters", "numbers"), [_bytes([PHOTOGRAPH])]) == (
        404,
        {"error": "Model numbers not found"},
    )


def test_taken_port_is_named(url, ports, letters, capsys):
    _, exported = letters
    assert cli.main(["serve", str(exported.path), "--port", str(ports["http"])]) == cli.EXIT_MISTAKE
    assert f"Nothing can listen at 127.0.0.1:{ports['http']}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.tflite"], "There is no model 'nowhere.tflite'"),
        (["model.pt"], "model.pt"),
        (["nowhere.tflite", "--max-batch-size", "0"], "max_batch_size 0 is too small"),
        (["nowhere.tflite", "--max-batch-time", "0"], "max_batch_time 0 is not positive"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert cli.main(["serve", *arguments]) == cli.EXIT_MISTAKE
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1


def _names():
    return ("small_patch_image", "large_patch_image")


def _tensor(name, array):
    return {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}


def _bytes(files):
    data = [base64.b64encode(each).decode() for each in files]
    return {"name": "image_bytes", "datatype": "BYTES", "shape": [len(data)], "data": data}


def _post(url, inputs, *, body=None):
    """Status and JSON of an answer."""
    body = json.dumps({"inputs": inputs}).encode() if body is None else body
    request = urllib.request.Request(f"{url}/infer", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def _outputs(answered):
    code, answer = answered
    assert code == 200, answer
    return {each["name"]: np.reshape(each["data"], each["shape"]) for each in answer["outputs"]}


def _ask_by_grpc(ports, request):
    with grpc.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
        return dataplane_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)


def _batches(ports):
    """How often the runtime has been called, and for how many pictures."""
    with urllib.request.urlopen(f"http://127.0.0.1:{ports['metrics']}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("pictures_per_batch_"))
    return float(values["pictures_per_batch_count"]), float(values["pictures_per_batch_sum"])
