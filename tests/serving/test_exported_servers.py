"""`keras-crossvit serve` on LiteRT, OpenVINO and ONNX files."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc

import keras_crossvit as kc
from keras_crossvit.exporting.serving_requests import bytes_of_no_image, drawn_image, encoded
from keras_crossvit.preprocessing.predictions import sigmoid
from keras_crossvit.serving import classify_on_server
from tests.helpers.backends import call
from tests.helpers.exports import CLASSES, FILES, confident_model, small_model, write_export
from tests.helpers.models import images
from tests.serving.kserve_requests import batches, bytes_tensor, infer, infer_grpc, outputs_of, tensors
from tests.serving.server_process import serving

IMAGES = [drawn_image(), drawn_image()[::-1].copy(), drawn_image()[:, :50].copy()]
GOOD = [encoded(image, "PNG") for image in IMAGES]
PROTOCOLS = pytest.mark.parametrize("protocol", ["rest", "grpc"])


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module", params=FILES)
def server(request, model, tmp_path_factory):
    name, (file, batch_size) = request.param, FILES[request.param]
    path = tmp_path_factory.mktemp(name) / file
    write_export(model, path, batch_size=batch_size or "dynamic")
    with serving(path, "--max-batch-size", 8, "--max-batch-time", 0.05) as started:
        yield started


@pytest.fixture(scope="module")
def expected(model):
    """Probabilities of each image by class."""
    logits = call(model, kc.preprocess(IMAGES, model)).astype("float64")
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def assert_predictions(predictions, probabilities):
    assert [each.name for each in predictions] == [CLASSES[i] for i in np.argsort(-probabilities)]
    found = [each.probability for each in predictions]
    np.testing.assert_allclose(found, np.sort(probabilities)[::-1], rtol=0, atol=1e-5)


@PROTOCOLS
def test_predictions_match_the_model_and_bad_images_have_none(protocol, server, expected):
    answers = classify_on_server(getattr(server, protocol), [*bytes_of_no_image(), *GOOD])
    assert answers[:4] == [None] * 4
    for answer, probabilities in zip(answers[4:], expected, strict=True):
        assert_predictions(answer, probabilities)


def test_concurrent_requests_are_batched_and_independent(server, expected, model):
    inputs = images(model, batch=3, seed=5)
    logits = call(model, inputs)
    before = batches(server)
    with ThreadPoolExecutor(16) as threads:
        mixed = [
            threads.submit(classify_on_server, url, [GOOD[i % 3], bytes_of_no_image()[i % 4]])
            for i in range(12)
            for url in (server.rest, server.grpc)
        ]
        normalized = [threads.submit(infer_grpc, server, inputs) for _ in range(4)]
        wrong_shapes = [
            threads.submit(infer, server.rest, tensors([each[:, :20] for each in inputs])) for _ in range(4)
        ]
    for number, each in enumerate(mixed):
        good, bad = each.result()
        assert_predictions(good, expected[number // 2 % 3])
        assert bad is None
    for each in normalized:
        np.testing.assert_allclose(each.result()["logits"], logits, rtol=0, atol=1e-5)
    assert {each.result()[0] for each in wrong_shapes} == {400}
    calls, samples = np.subtract(batches(server), before)
    assert samples == 24 + 4 * 3
    assert calls < 28


def test_bad_requests_are_rejected_and_the_server_continues(server, model):
    small, large = images(model, batch=1)
    for arrays, message in (
        ((small[:, 1:], large), "47, 48, 3"),
        ((small.astype("int32"), large), "int32"),
        ((small * np.nan, large), "not finite"),
        ((small[:0], large[:0]), "empty"),
    ):
        with pytest.raises(tritonclient.grpc.InferenceServerException, match=message):
            infer_grpc(server, arrays)
    assert outputs_of(infer(server.rest, [bytes_tensor([b""])]))["valid"].tolist() == [False]
    assert classify_on_server(server.grpc, GOOD[:1])[0] is not None


@pytest.fixture(scope="module")
def one_class():
    return confident_model(num_classes=1, class_names=["dog"])


@pytest.fixture(scope="module")
def one_class_server(one_class, tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "dog.tflite"
    write_export(one_class, path)
    with serving(path, "--max-batch-size", 8, "--max-batch-time", 0.1) as started:
        yield started


@PROTOCOLS
def test_one_class_has_its_sigmoid(protocol, one_class_server, one_class):
    expected = sigmoid(call(one_class, kc.preprocess(IMAGES, one_class)))
    assert expected.max() < 0.999
    answers = classify_on_server(getattr(one_class_server, protocol), GOOD)
    assert [[each.name for each in answer] for answer in answers] == [["dog"]] * 3
    np.testing.assert_allclose([answer[0].probability for answer in answers], expected[:, 0], rtol=0, atol=1e-5)


def test_logits_that_are_not_finite_only_fail_their_own_request(one_class_server, one_class):
    inputs = images(one_class, batch=1)
    overflowing = [np.full_like(each, 3e38) for each in inputs]  # finite, but its sums overflow
    with ThreadPoolExecutor(8) as threads:
        good = [threads.submit(infer, one_class_server.rest, tensors(inputs)) for _ in range(6)]
        bad = [threads.submit(infer, one_class_server.rest, tensors(overflowing)) for _ in range(2)]
    for each in good:
        outputs = outputs_of(each.result())
        np.testing.assert_allclose(outputs["logits"], call(one_class, inputs), rtol=0, atol=1e-4)
        np.testing.assert_allclose(outputs["probabilities"], sigmoid(outputs["logits"]), rtol=0, atol=1e-6)
    for each in bad:
        code, answer = each.result()
        assert code == 500
        assert "not finite" in answer["error"]
    with pytest.raises(tritonclient.grpc.InferenceServerException, match="not finite"):
        infer_grpc(one_class_server, overflowing)
