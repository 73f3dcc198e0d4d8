"""`keras-crossvit serve` as a process, asked by HTTP and gRPC."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc

from keras_crossvit import cli
from keras_crossvit.export.requests import bytes_of_no_picture, drawn_picture, encoded
from keras_crossvit.serving.client import ask_server
from tests.helpers.backends import call
from tests.helpers.models import images
from tests.serving.asking import ask_by_grpc, batches, by_name, bytes_tensor, outputs_of, post, tensors
from tests.serving.servers import serving

PHOTOGRAPH = encoded(drawn_picture(), "JPEG")


@pytest.fixture(scope="module")
def server(letters):
    _, exported = letters
    with serving(exported.path.parent, "--max-batch-size", 8, "--max-batch-time", 0.1) as started:
        yield started


@pytest.fixture(scope="module")
def url(server):
    return server.rest


def test_tensors_get_the_model_s_logits(url, letters):
    model, _ = letters
    inputs = images(model, batch=3, seed=2)
    outputs = outputs_of(post(url, tensors(inputs)))
    np.testing.assert_allclose(outputs["logits"], call(model, inputs), rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-6)


def test_tensors_get_the_same_by_grpc(server, letters):
    model, _ = letters
    inputs = images(model, batch=2, seed=3)
    logits = ask_by_grpc(server, by_name(inputs))["logits"]
    np.testing.assert_allclose(logits, call(model, inputs), rtol=0, atol=1e-5)


def test_nan_and_unknown_models_are_refused_by_grpc(server, letters):
    model, _ = letters
    nan = by_name([image * np.nan for image in images(model)])
    with pytest.raises(tritonclient.grpc.InferenceServerException, match="small_patch_image has values that are not"):
        ask_by_grpc(server, nan)
    with pytest.raises(RuntimeError, match=r"refuses \(NOT_FOUND\): Model numbers .*not found"):
        ask_server(server.grpc.replace("letters", "numbers"), [PHOTOGRAPH])


def test_server_of_another_protocol_is_told_by_its_forms(server):
    with pytest.raises(RuntimeError, match=r"speaks another protocol; use .*grpc://HOST:8081/v2/models/NAME"):
        ask_server(server.grpc.replace("/v2/models", ""), [PHOTOGRAPH])


def test_bytes_are_named_and_bad_ones_explained(url):
    files = [*bytes_of_no_picture(), PHOTOGRAPH]
    outputs = outputs_of(post(url, [bytes_tensor(files)]))
    assert outputs["valid"].tolist() == [False, False, False, False, True]
    reasons = ["no known format", "no whole picture", "pixels", "no known format", ""]
    for number, reason in enumerate(reasons):
        assert reason in outputs["error"][number]
        assert (f"image_bytes[{number}]" in outputs["error"][number]) == bool(reason)
    assert outputs["class_ids"][:4].tolist() == [[-1] * 5] * 4
    assert sorted(outputs["class_names"][4]) == list("abcde")
    assert ask_server(url, files)[:4] == [None] * 4


def test_requests_that_come_together_are_classified_together_and_none_suffers_from_another(server, letters):
    model, _ = letters
    wrong = tensors([image[:, :20] for image in images(model)])
    alone = ask_server(server.rest, [PHOTOGRAPH])
    before = batches(server)
    with ThreadPoolExecutor(12) as threads:
        good = [threads.submit(ask_server, server.rest, [PHOTOGRAPH]) for _ in range(24)]
        bad = [threads.submit(post, server.rest, wrong) for _ in range(6)]
    assert {each.result()[0] for each in bad} == {400}
    for each in good:
        for one, other in zip(each.result()[0], alone[0], strict=True):
            assert one[:2] == other[:2]
            assert one.probability == pytest.approx(other.probability, abs=1e-5)
    calls, pictures = np.subtract(batches(server), before)
    assert pictures == 24
    assert calls < 24


def test_client_of_little_patience_is_told_and_the_others_are_answered(server):
    with ThreadPoolExecutor(4) as threads:
        leaving = threads.submit(ask_server, server.grpc, [PHOTOGRAPH], timeout=0.05)  # a batch waits twice as long
        staying = [threads.submit(ask_server, server.grpc, [PHOTOGRAPH]) for _ in range(3)]
    with pytest.raises(TimeoutError, match=r"has not answered within 0\.05 s"):
        leaving.result()
    assert all(each.result()[0] is not None for each in staying)


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
    small, large = tensors(images(model, batch=1))
    code, answer = post(url, [{**small, **change}, large])
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
    code, answer = post(url, [{"name": "image_bytes", "datatype": "BYTES", **tensor}])
    assert code == 400
    assert message in answer["error"]


def test_what_is_no_base64_or_no_json_is_refused(url):
    outputs = outputs_of(post(url, [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": ["#"]}]))
    assert "is not base64" in outputs["error"][0]
    assert post(url, None, body=b"{no json")[0] == 422
    assert post(url.replace("letters", "numbers"), [bytes_tensor([PHOTOGRAPH])]) == (
        404,
        {"error": "Model numbers not found"},
    )


def test_taken_port_is_named(url, letters, capsys):
    _, exported = letters
    port = url.split(":")[2].split("/")[0]
    assert cli.main(["serve", str(exported.path), "--port", port]) == cli.EXIT_MISTAKE
    assert f"Nothing can listen at 127.0.0.1:{port}" in capsys.readouterr().err


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
