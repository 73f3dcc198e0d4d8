"""`keras-crossvit serve` on LiteRT, OpenVINO and ONNX files: the same answers, and none lost to a bad neighbour."""

import importlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc

import keras_crossvit as kc
from keras_crossvit.exporting import litert_writer
from keras_crossvit.exporting.serving_requests import bytes_of_no_image, drawn_image, encoded
from keras_crossvit.exporting.tracing import in_float32
from keras_crossvit.preprocessing.predictions import sigmoid
from keras_crossvit.runtimes.metadata import metadata_of
from keras_crossvit.serving.client import ask_server
from tests.helpers.backends import call
from tests.helpers.exports import CLASSES, FILES, confident_model, small_model
from tests.helpers.models import images
from tests.serving.requests_by_hand import ask_by_grpc, batches, by_name, bytes_tensor, outputs_of, post, tensors
from tests.serving.servers import serving

IMAGES = [drawn_image(), drawn_image()[::-1].copy(), drawn_image()[:, :50].copy()]
GOOD = [encoded(image, "PNG") for image in IMAGES]


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module", params=FILES)
def server(request, model, tmp_path_factory):
    name, (file, batch_size) = request.param, FILES[request.param]
    path = tmp_path_factory.mktemp(name) / file
    writer = importlib.import_module(f"keras_crossvit.exporting.{name}_writer")
    writer.write(in_float32(model), path, metadata_of(model), quantize=None, batch_size=batch_size)
    with serving(path, "--max-batch-size", 8, "--max-batch-time", 0.05) as started:
        yield started


@pytest.fixture(scope="module")
def wanted(model):
    """Probabilities of each picture by class."""
    logits = call(model, kc.preprocess(IMAGES, model)).astype("float64")
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def _as_requested(answer, probabilities):
    assert [each.name for each in answer] == [CLASSES[i] for i in np.argsort(-probabilities)]
    np.testing.assert_allclose([each.probability for each in answer], np.sort(probabilities)[::-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_images_are_named_as_by_the_model_and_bad_ones_set_aside(way, server, wanted):
    answers = ask_server(getattr(server, way), [*bytes_of_no_image(), *GOOD])
    assert answers[:4] == [None] * 4
    for answer, probabilities in zip(answers[4:], wanted, strict=True):
        _as_requested(answer, probabilities)


def test_requests_that_come_together_share_batches_and_nothing_else(server, wanted, model):
    inputs = images(model, batch=3, seed=5)
    logits = call(model, inputs)
    before = batches(server)
    with ThreadPoolExecutor(16) as threads:
        mixed = [
            threads.submit(ask_server, way, [GOOD[i % 3], bytes_of_no_image()[i % 4]])
            for i in range(12)
            for way in (server.rest, server.grpc)
        ]
        by_tensors = [threads.submit(ask_by_grpc, server, by_name(inputs)) for _ in range(4)]
        of_wrong_shape = [
            threads.submit(post, server.rest, tensors([each[:, :20] for each in inputs])) for _ in range(4)
        ]
    for number, each in enumerate(mixed):
        good, bad = each.result()
        _as_requested(good, wanted[number // 2 % 3])
        assert bad is None
    for each in by_tensors:
        np.testing.assert_allclose(each.result()["logits"], logits, rtol=0, atol=1e-5)
    assert {each.result()[0] for each in of_wrong_shape} == {400}
    calls, samples = np.subtract(batches(server), before)
    assert samples == 24 + 4 * 3
    assert calls < 28


def test_bad_requests_are_refused_and_the_server_goes_on(server, model):
    small, large = images(model, batch=1)
    for arrays, message in (
        ((small[:, 1:], large), "does not fit the model"),
        ((small.astype("int32"), large), "is of datatype INT32"),
        ((small * np.nan, large), "not finite"),
        ((small[:0], large[:0]), "batch is empty"),
    ):
        with pytest.raises(tritonclient.grpc.InferenceServerException, match=message):
            ask_by_grpc(server, by_name(arrays))
    assert outputs_of(post(server.rest, [bytes_tensor([b""])]))["valid"].tolist() == [False]
    assert ask_server(server.grpc, GOOD[:1])[0] is not None


@pytest.fixture(scope="module")
def one_class():
    return confident_model(num_classes=1, class_names=["dog"])


@pytest.fixture(scope="module")
def one_class_server(one_class, tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "dog.tflite"
    litert_writer.write(in_float32(one_class), path, metadata_of(one_class), quantize=None, batch_size=1)
    with serving(path, "--max-batch-size", 8, "--max-batch-time", 0.1) as started:
        yield started


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_one_class_has_a_probability_of_its_own(way, one_class_server, one_class):
    wanted = sigmoid(call(one_class, kc.preprocess(IMAGES, one_class)))
    assert wanted.max() < 0.999
    answers = ask_server(getattr(one_class_server, way), GOOD)
    assert [[each.name for each in answer] for answer in answers] == [["dog"]] * 3
    np.testing.assert_allclose([answer[0].probability for answer in answers], wanted[:, 0], rtol=0, atol=1e-5)


def test_logits_that_are_not_finite_are_an_error_of_their_own_request(one_class_server, one_class):
    inputs = images(one_class, batch=1)
    overflowing = [np.full_like(each, 3e38) for each in inputs]  # finite, but not within LiteRT's sums
    with ThreadPoolExecutor(8) as threads:
        good = [threads.submit(post, one_class_server.rest, tensors(inputs)) for _ in range(6)]
        bad = [threads.submit(post, one_class_server.rest, tensors(overflowing)) for _ in range(2)]
    for each in good:
        outputs = outputs_of(each.result())
        np.testing.assert_allclose(outputs["logits"], call(one_class, inputs), rtol=0, atol=1e-4)
        np.testing.assert_allclose(outputs["probabilities"], sigmoid(outputs["logits"]), rtol=0, atol=1e-6)
    for each in bad:
        code, answer = each.result()
        assert code == 500
        assert "not finite" in answer["error"]
    with pytest.raises(tritonclient.grpc.InferenceServerException, match="not finite"):
        ask_by_grpc(one_class_server, by_name(overflowing))
