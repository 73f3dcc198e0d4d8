"""`keras-crossvit serve` as a process, asked by HTTP and gRPC."""

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc

from keras_crossvit import save_checkpoint
from keras_crossvit._internal.served_name import name_of
from keras_crossvit.cli import main as cli
from keras_crossvit.exporting.serving_requests import bytes_of_no_image, drawn_image, encoded
from keras_crossvit.serving.client import ask_server
from tests.helpers.backends import call
from tests.helpers.models import images, tiny
from tests.serving.requests_by_hand import (
    ask_as_documented,
    ask_by_grpc,
    batches,
    by_name,
    bytes_tensor,
    outputs_of,
    post,
    post_to,
    tensors,
)
from tests.serving.servers import serving

PHOTOGRAPH = encoded(drawn_image(), "JPEG")


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
    files = [*bytes_of_no_image(), PHOTOGRAPH]
    outputs = outputs_of(post(url, [bytes_tensor(files)]))
    assert outputs["valid"].tolist() == [False, False, False, False, True]
    reasons = ["unknown format", "truncated", "pixels", "unknown format", ""]
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
    calls, counted = np.subtract(batches(server), before)
    assert counted == 24
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
        ({"name": "image"}, "are not what the model takes; give either small_patch_image and large_patch_image, or"),
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
        ({"shape": [1], "data": 5}, "holds something else than text; give the bytes of files in base64"),
        ({"shape": [1], "data": [7]}, "holds something else than text"),
        ({"shape": [1], "data": [None]}, "holds something else than text"),
        ({"shape": [1], "data": {"b64": "aaaa"}}, "holds something else than text"),
        ({"shape": [4], "data": "aaaa"}, "holds something else than text"),
        ({"shape": [1, 1], "data": [[["aaaa"]]]}, "holds something else than text"),
        ({"shape": [33], "data": ["aaaa"] * 33}, "has 33 pictures, more than the 32 of a request; send several"),
    ],
)
def test_bad_bytes_are_refused_with_their_reason(tensor, message, url):
    code, answer = post(url, [{"name": "image_bytes", "datatype": "BYTES", **tensor}])
    assert code == 400
    assert message in answer["error"]


def test_outputs_may_be_chosen_and_strange_ones_are_named(url):
    ask = {"inputs": [bytes_tensor([PHOTOGRAPH])], "outputs": [{"name": "class_names"}]}
    assert list(outputs_of(post(url, None, body=json.dumps(ask).encode()))) == ["class_names"]
    ask["outputs"].append({"name": "logits"})
    code, answer = post(url, None, body=json.dumps(ask).encode())
    assert code == 400
    assert "outputs logits are not what the model gives for these inputs" in answer["error"]


def test_documented_curl_sends_a_large_image(url, tmp_path):
    answer = ask_as_documented("localhost:8080/v2/models/pets/infer", f"{url}/infer", tmp_path)
    assert outputs_of((200, answer))["valid"].tolist() == [True]


def test_rows_of_one_image_each_are_taken(url):
    (tensor,) = [bytes_tensor([PHOTOGRAPH, PHOTOGRAPH])]
    rows = {**tensor, "shape": [2, 1], "data": [[each] for each in tensor["data"]]}
    assert outputs_of(post(url, [rows]))["valid"].tolist() == [True, True]


def test_lines_that_would_fill_the_memory_are_refused_alone(url):
    lines = [encoded(np.zeros(shape, "uint8"), "PNG") for shape in ((1, 500_000, 3), (500_000, 1, 3))]
    outputs = outputs_of(post(url, [bytes_tensor([*lines, PHOTOGRAPH])]))
    assert outputs["valid"].tolist() == [False, False, True]
    assert all("is too narrow" in each for each in outputs["error"][:2])


def test_no_client_can_take_the_model_away_or_load_another(server, url):
    repository = url.replace("/v2/models", "/v2/repository/models")
    for verb in ("unload", "load"):
        code, answer = post_to(f"{repository}/{verb}", b"{}")
        assert code == 403
        assert "'letters' is neither loaded nor unloaded for clients" in answer["error"]
    assert post_to(url.replace("/v2/models/letters", "/v2/repository/index"), b"{}") == (200, [])
    with tritonclient.grpc.InferenceServerClient(server.grpc.split("/")[2]) as client:
        for ask in (client.unload_model, client.load_model):
            with pytest.raises(tritonclient.grpc.InferenceServerException, match="neither loaded nor unloaded"):
                ask("letters")
    assert ask_server(url, [PHOTOGRAPH])[0] is not None


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
        (["nowhere.tflite", "--port", "70000"], "port 70000 is too large; use a whole number of at most 65535"),
        (["nowhere.tflite", "--grpc-port", "-1"], "grpc_port -1 is too small"),
        (["nowhere.tflite", "--metrics-port", "0"], "metrics_port 0 is too small"),
        (["nowhere.tflite", "--port", "8081"], "grpc_port 8081 is the port as well; choose another one"),
        (["nowhere.tflite", "--metrics-port", "8080"], "metrics_port 8080 is the port as well"),
        (
            ["my pets.tflite"],
            "'my pets' is no name to serve a model by; choose one by name (--name) of up to 63 letters",
        ),
        (["nowhere.tflite", "--name", "a/b"], "'a/b' is no name to serve a model by; use up to 63 letters"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert cli.main(["serve", *arguments]) == cli.EXIT_MISTAKE
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_what_no_server_can_answer_for_is_said_before_any_port_is_open(tmp_path, capsys):
    save_checkpoint(tiny(classifier_activation="log_softmax"), tmp_path / "model.keras")
    assert cli.main(["serve", str(tmp_path / "model.keras")]) == cli.EXIT_MISTAKE
    assert "'log_softmax' makes of logits is known to Keras alone" in capsys.readouterr().err


def test_host_that_is_none_is_named(letters, capsys):
    _, exported = letters
    assert cli.main(["serve", str(exported.path), "--host", "nowhere.invalid"]) == cli.EXIT_MISTAKE
    assert "Nothing can listen at nowhere.invalid:8080 (Name or service not known)" in capsys.readouterr().err


HOSTILE = {
    "MLSERVER_LOGGING_SETTINGS": "log.conf",
    "MLSERVER_CORS_SETTINGS": '{"allow_origins": ["*"], "allow_methods": ["*"]}',
    "MLSERVER_ALLOW_ORIGINS": '["*"]',
    "MLSERVER_HOST": "0.0.0.0",
    "MLSERVER_HTTP_PORT": "1",
    "MLSERVER_ROOT_PATH": "/elsewhere",
    "MLSERVER_SERVER_VERSION": "hostile",
    "MLSERVER_EXTENSIONS": '["hostile"]',
    "MLSERVER_KAFKA_ENABLED": "true",
    "MLSERVER_TRACING_SERVER": "nowhere.invalid:4317",
    "MLSERVER_USE_STRUCTURED_LOGGING": "true",
    "MLSERVER_METRICS_DIR": "metrics",
    "MLSERVER_ENVIRONMENTS_DIR": "environments",
    "MLSERVER_CACHE_ENABLED": "true",
    "MLSERVER_MODEL_REPOSITORY_ROOT": "models",
    "MLSERVER_MODEL_NAME": "hostile",
    "MLSERVER_MODEL_PLATFORM": "hostile",
    "MLSERVER_MODEL_VERSION": "hostile",
    "MLSERVER_MODEL_VERSIONS": '["hostile"]',
    "MLSERVER_MODEL_URI": "hostile.keras",
    "MLSERVER_MODEL_ENVIRONMENT_PATH": "hostile",
    "MLSERVER_MODEL_IMPLEMENTATION": "hostile.Model",
}
LOGGING = """
[loggers]
keys=root
[handlers]
keys=hostile
[formatters]
keys=
[logger_root]
handlers=hostile
[handler_hostile]
class=StreamHandler
args=(open("ran", "w"),)
"""


def test_neither_the_current_folder_nor_the_environment_has_a_say(letters, tmp_path):
    _, exported = letters
    (tmp_path / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in HOSTILE.items()))
    (tmp_path / "log.conf").write_text(LOGGING)
    (tmp_path / "settings.json").write_text(json.dumps({"http_port": 1, "logging_settings": "log.conf"}))
    model = {"name": "hostile", "implementation": "hostile.Model"}
    (tmp_path / "model-settings.json").write_text(json.dumps(model))
    before = sorted(tmp_path.rglob("*"))
    with serving(exported.path.parent.resolve(), cwd=tmp_path, **HOSTILE) as server:
        assert ask_server(server.rest, [PHOTOGRAPH])[0] is not None
        root = server.rest.removesuffix("/models/letters")
        asked = urllib.request.Request(root, headers={"Origin": "https://hostile.invalid"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]
            facts = json.load(answer)
        with urllib.request.urlopen(server.rest, timeout=30) as answer:
            of_model = json.load(answer)
        assert post_to(root.replace("/v2", "/v2/repository/index"), b"{}") == (200, [])
    assert facts["name"] == "keras_crossvit"
    assert "hostile" not in json.dumps([facts, of_model])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("path", "name"),
    [("pets.xml", "pets"), ("a/pets.v2.onnx", "pets.v2"), ("folder", "folder"), ("folder/7", "folder")],
)
def test_a_model_is_named_after_its_file_or_folder(path, name, tmp_path):
    (tmp_path / "folder" / "7").mkdir(parents=True)
    assert name_of(tmp_path / path) == name
