"""`keras-crossvit serve` as a process, over HTTP and gRPC."""

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc

from keras_crossvit import save_checkpoint
from keras_crossvit._internal.errors import OperationError
from keras_crossvit._internal.served_name import default_served_name
from keras_crossvit.cli import main as cli
from keras_crossvit.exporting.serving_requests import bytes_of_no_image, drawn_image, encoded
from keras_crossvit.serving import classify_on_server
from tests.helpers.backends import call
from tests.helpers.models import images, tiny
from tests.serving.kserve_requests import bytes_tensor, infer, outputs_of, post, run_documented_curl, tensors
from tests.serving.server_process import free_ports, serving

PHOTO = encoded(drawn_image(), "JPEG")
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
HOSTILE_FILES = {
    ".env": "".join(f"{name}='{value}'\n" for name, value in HOSTILE.items()),
    "log.conf": LOGGING,
    "settings.json": json.dumps({"http_port": 1, "logging_settings": "log.conf"}),
    "model-settings.json": json.dumps({"name": "hostile", "implementation": "hostile.Model"}),
}


@pytest.fixture(scope="module")
def hostile_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    for name, text in HOSTILE_FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def server(letters, hostile_folder):
    """A server in a folder and an environment with settings of MLServer, none of which may have an effect."""
    path = letters[1].path.parent.resolve()
    with serving(path, "--max-batch-size", 8, "--max-batch-time", 0.1, cwd=hostile_folder, **HOSTILE) as started:
        yield started


@pytest.fixture(scope="module")
def url(server):
    return server.rest


def test_normalized_inputs_get_the_model_s_logits(url, letters):
    model, _ = letters
    inputs = images(model, batch=3, seed=2)
    outputs = outputs_of(infer(url, tensors(inputs)))
    np.testing.assert_allclose(outputs["logits"], call(model, inputs), rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-6)


def test_metadata_describes_inputs_and_outputs(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        metadata = json.load(answer)
    inputs = {each["name"]: (each["datatype"], each["shape"]) for each in metadata["inputs"]}
    assert inputs["small_patch_image"] == ("FP32", [-1, 48, 48, 3])
    assert inputs["image_bytes"] == ("BYTES", [-1])
    assert {each["name"] for each in metadata["outputs"]} >= {"logits", "class_names", "valid", "error"}


def test_grpc_errors_name_an_unknown_model_and_another_protocol(server):
    with pytest.raises(OperationError, match=r"NOT_FOUND.*numbers"):
        classify_on_server(server.grpc.replace("letters", "numbers"), [PHOTO])
    with pytest.raises(OperationError, match=r"protocol.*grpc://HOST:8081/v2/models/NAME"):
        classify_on_server(server.grpc.replace("/v2/models", ""), [PHOTO])


def test_image_files_get_predictions_or_a_reason(url):
    empty, half, _, text = bytes_of_no_image()
    icon = encoded(drawn_image(), "ICO")  # may contain a larger image than it says
    outputs = outputs_of(infer(url, [bytes_tensor([empty, half, icon, text, PHOTO])]))
    assert outputs["valid"].tolist() == [False, False, False, False, True]
    assert [f"image_bytes[{i}]" in error for i, error in enumerate(outputs["error"])] == [True] * 4 + [False]
    assert "format" in outputs["error"][2]
    assert outputs["class_ids"][:4].tolist() == [[-1] * 5] * 4
    assert sorted(outputs["class_names"][4]) == list("abcde")


def test_client_that_times_out_leaves_the_others_in_its_batch(server):
    with ThreadPoolExecutor(4) as threads:
        leaving = threads.submit(classify_on_server, server.grpc, [PHOTO], timeout=0.05)  # a batch waits twice as long
        staying = [threads.submit(classify_on_server, server.grpc, [PHOTO]) for _ in range(3)]
    with pytest.raises(TimeoutError, match=r"0\.05 s"):
        leaving.result()
    assert all(each.result()[0] is not None for each in staying)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [1, 48, 40, 3], "data": [0.0] * 5760}, "(1, 48, 40, 3)"),
        ({"shape": [48, 48, 3]}, "(48, 48, 3)"),
        ({"shape": [2, 48, 48, 3]}, "6912"),
        ({"shape": [0, 48, 48, 3], "data": []}, "0 small-patch and 1 large-patch"),
        ({"datatype": "INT64", "data": [0] * 6912}, "int64"),
        ({"datatype": "BYTES", "shape": [], "data": []}, "small_patch_image"),
        ({"data": ["x"] * 6912}, "small_patch_image"),
        ({"name": "image"}, "image"),
    ],
)
def test_bad_normalized_inputs_are_rejected_with_their_reason(change, message, url, letters):
    model, _ = letters
    small, large = tensors(images(model, batch=1))
    code, answer = infer(url, [{**small, **change}, large])
    assert code == 400
    assert message in answer["error"]


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"shape": [0], "data": []}, "empty"),
        ({"shape": [2], "data": ["aaaa"]}, "[2] and 1 elements"),
        ({"shape": [1], "datatype": "FP32", "data": [1.0]}, "FP32"),
        ({"shape": [1], "data": 5}, "not text"),
        ({"shape": [1], "data": [7]}, "not text"),
        ({"shape": [1], "data": [None]}, "not text"),
        ({"shape": [1], "data": {"b64": "aaaa"}}, "not text"),
        ({"shape": [4], "data": "aaaa"}, "not text"),
        ({"shape": [1, 1], "data": [[["aaaa"]]]}, "not text"),
        ({"shape": [3], "data": [["aaaa"], ["aaaa", "aaaa"]]}, "not text"),
        ({"shape": [33], "data": ["aaaa"] * 33}, "33 images; send at most 32"),
    ],
)
def test_bad_image_tensors_are_rejected_with_their_reason(tensor, message, url):
    code, answer = infer(url, [{"name": "image_bytes", "datatype": "BYTES", **tensor}])
    assert code == 400
    assert message in answer["error"]


def test_outputs_can_be_selected(url):
    inputs = [bytes_tensor([PHOTO])]
    assert list(outputs_of(infer(url, inputs, outputs=[{"name": "class_names"}]))) == ["class_names"]
    code, answer = infer(url, inputs, outputs=[{"name": "class_names"}, {"name": "logits"}])
    assert code == 400
    assert "logits" in answer["error"]


def test_documented_curl_sends_a_large_image(url, tmp_path):
    answer = run_documented_curl("localhost:8080/v2/models/pets/infer", f"{url}/infer", tmp_path)
    assert outputs_of((200, answer))["valid"].tolist() == [True]


def test_rows_of_one_image_each_are_accepted(url):
    tensor = bytes_tensor([PHOTO, PHOTO])
    rows = {**tensor, "shape": [2, 1], "data": [[each] for each in tensor["data"]]}
    assert outputs_of(infer(url, [rows]))["valid"].tolist() == [True, True]


def test_images_that_would_fill_the_memory_are_not_valid(url):
    lines = [encoded(np.zeros(shape, "uint8"), "PNG") for shape in ((1, 500_000, 3), (500_000, 1, 3))]
    outputs = outputs_of(infer(url, [bytes_tensor([*lines, PHOTO])]))
    assert outputs["valid"].tolist() == [False, False, True]
    assert all("too narrow" in each for each in outputs["error"][:2])


def test_clients_cannot_load_or_unload_models(server, url):
    repository = url.replace("/v2/models", "/v2/repository/models")
    for verb in ("unload", "load"):
        code, answer = post(f"{repository}/{verb}", b"{}")
        assert code == 403
        assert "'letters'" in answer["error"]
    assert post(url.replace("/v2/models/letters", "/v2/repository/index"), b"{}") == (200, [])
    with tritonclient.grpc.InferenceServerClient(server.grpc.split("/")[2]) as client:
        for request in (client.unload_model, client.load_model):
            with pytest.raises(tritonclient.grpc.InferenceServerException, match="cannot load or unload 'letters'"):
                request("letters")
    assert classify_on_server(url, [PHOTO])[0] is not None


def test_malformed_requests_are_rejected(url):
    outputs = outputs_of(infer(url, [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": ["#"]}]))
    assert "base64" in outputs["error"][0]
    assert post(f"{url}/infer", b"{no json")[0] == 422
    assert infer(url.replace("letters", "numbers"), [bytes_tensor([PHOTO])])[0] == 404


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.tflite"], "'nowhere.tflite'"),
        (["model.pt"], "model.pt"),
        (["nowhere.tflite", "--max-batch-size", "0"], "max_batch_size 0"),
        (["nowhere.tflite", "--max-batch-time", "0"], "max_batch_time 0"),
        (["nowhere.tflite", "--max-request-bytes", "0"], "max_request_bytes 0"),
        (["nowhere.tflite", "--max-request-bytes", "2147483648"], "max_request_bytes 2147483648"),
        (["nowhere.tflite", "--max-images", "0"], "max_images 0"),
        (["nowhere.tflite", "--max-pixels", "90000000"], "max_pixels 90000000"),
        (["nowhere.tflite", "--request-timeout", "0"], "request_timeout 0"),
        (["nowhere.tflite", "--decoding-threads", "0"], "decoding_threads 0"),
        (["nowhere.tflite", "--drain-time", "-1"], "drain_time -1"),
        (["nowhere.tflite", "--port", "70000"], "port 70000"),
        (["nowhere.tflite", "--grpc-port", "-1"], "grpc_port -1"),
        (["nowhere.tflite", "--metrics-port", "0"], "metrics_port 0"),
        (["nowhere.tflite", "--host", "::1"], "'::1'"),
        (["nowhere.tflite", "--host", "nowhere.invalid"], "nowhere.invalid"),
        (["my pets.tflite"], "--name"),
        (["nowhere.tflite", "--name", "a/b"], "'a/b'"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    model, *options = arguments
    ports = zip(("--port", "--grpc-port"), map(str, free_ports(2)), strict=True)
    assert cli.main(["serve", model, *(word for option in ports for word in option), *options]) == cli.EXIT_MISTAKE
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_ports_in_use_are_named(url, capsys):
    taken, (free,) = url.split(":")[2].split("/")[0], free_ports(1)
    for port, grpc_port, message in ((taken, free, f"port {taken}"), (free, free, f"grpc_port {free}")):
        ports = ["--port", str(port), "--grpc-port", str(grpc_port)]
        assert cli.main(["serve", "nowhere.tflite", *ports]) == cli.EXIT_MISTAKE
        assert message in capsys.readouterr().err


def test_model_without_known_probabilities_is_refused_before_the_server_starts(tmp_path, capsys):
    save_checkpoint(tiny(classifier_activation="log_softmax"), tmp_path / "model.keras")
    ports = zip(("--port", "--grpc-port"), map(str, free_ports(2)), strict=True)
    options = [word for option in ports for word in option]
    assert cli.main(["serve", str(tmp_path / "model.keras"), *options]) == cli.EXIT_MISTAKE
    assert "log_softmax" in capsys.readouterr().err


def test_current_folder_and_environment_change_no_setting(url, hostile_folder):
    assert classify_on_server(url, [PHOTO])[0] is not None
    root = url.removesuffix("/models/letters")
    request = urllib.request.Request(root, headers={"Origin": "https://hostile.invalid"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        metadata = [json.load(answer)]
    with urllib.request.urlopen(url, timeout=30) as answer:
        metadata.append(json.load(answer))
    assert post(root.replace("/v2", "/v2/repository/index"), b"{}") == (200, [])
    assert metadata[0]["name"] == "keras_crossvit"
    assert "hostile" not in json.dumps(metadata)
    assert {each.name for each in hostile_folder.iterdir()} == HOSTILE_FILES.keys()


@pytest.mark.parametrize(
    ("path", "name"),
    [("pets.xml", "pets"), ("a/pets.v2.onnx", "pets.v2"), ("folder", "folder"), ("folder/7", "folder")],
)
def test_default_name_is_that_of_the_file_or_folder(path, name, tmp_path):
    (tmp_path / "folder" / "7").mkdir(parents=True)
    assert default_served_name(tmp_path / path) == name


@pytest.mark.parametrize("request_id", ["a\r\nb: c", "\x00", "\u202e", "\ud800"])
def test_ids_that_cannot_be_headers_are_rejected(request_id, url):
    code, answer = infer(url, [bytes_tensor([PHOTO])], id=request_id)
    assert code in (400, 422)
    assert answer
    assert infer(url, [bytes_tensor([PHOTO])], id="a b-1")[0] == 200
