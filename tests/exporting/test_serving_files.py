import http.server
import json
import re
import subprocess
import threading

import numpy as np
import pytest
import tensorflow as tf
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from keras_crossvit.exporting import saved_model_writer
from keras_crossvit.exporting.serving_files import write_serving_files
from keras_crossvit.exporting.serving_requests import FILE, write_warm_up


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models") / "Pets_2"
    folder.mkdir()
    assert write_serving_files(folder) == write_serving_files(folder)  # an earlier export's files are replaced
    return {each.name: each.read_text() for each in folder.with_name("Pets_2.serving").iterdir()}


def test_models_config_is_tensorflow_serving_s(files):
    config = text_format.Parse(files["models.config"], model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("Pets_2", "/models/Pets_2", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 1


def test_batching_config_is_tensorflow_serving_s(files):
    parameters = text_format.Parse(files["batching.config"], _batching_parameters())
    assert parameters.max_batch_size.value == 16
    assert parameters.batch_timeout_micros.value == 2000
    assert parameters.num_batch_threads.value >= 1
    assert parameters.max_enqueued_batches.value >= parameters.num_batch_threads.value


def test_compose_file_starts_the_official_image_with_the_model_and_its_configuration(files):
    (service,) = yaml.safe_load(files["docker-compose.yaml"])["services"].values()
    assert service["image"] == f"tensorflow/serving:{tf.__version__}"
    mounts = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert mounts["../Pets_2"] == "/models/Pets_2"
    assert {mounts["./models.config"], mounts["./batching.config"]} == _configuration_files(service["command"])
    assert set(service["ports"]) == {"8500:8500", "8501:8501"}
    assert service["environment"] == {"TF_ENABLE_ONEDNN_OPTS": "1"}
    check = service["healthcheck"]["test"]
    assert check[:3] == ["CMD", "bash", "-c"]
    assert "GET /v1/models/Pets_2 HTTP/1.0\\r\\n\\r\\n" in check[3]


def test_kubernetes_manifest_fits_together(files):
    config, deployment, service = yaml.safe_load_all(files["kubernetes.yaml"])
    assert [each["kind"] for each in (config, deployment, service)] == ["ConfigMap", "Deployment", "Service"]
    assert config["data"]["models.config"].strip() == files["models.config"].strip()
    assert config["data"]["batching.config"].strip() == files["batching.config"].strip()
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"grpc": 8500, "http": 8501}
    assert container["env"] == [{"name": "TF_ENABLE_ONEDNN_OPTS", "value": "1"}]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/v1/models/Pets_2", "port": "http"}
    assert container["livenessProbe"]["tcpSocket"]["port"] in ports
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["config"]["configMap"]["name"] == config["metadata"]["name"]
    assert {each["name"] for each in container["volumeMounts"]} == set(volumes)
    mounted = {f"/config/{name}" for name in config["data"]}
    assert _configuration_files(container["args"]) == mounted


@pytest.mark.parametrize("name", ["123", "on", "Null", "7.5", "a" * 63, "a__.b" + 55 * "c"])
def test_resources_of_kubernetes_have_names_that_it_takes(name, tmp_path):
    manifest = (write_serving_files(tmp_path / name) / "kubernetes.yaml").read_text()
    config, deployment, service = yaml.safe_load_all(manifest)
    for each in (config, deployment, service):
        assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", each["metadata"]["name"])  # RFC 1035
    assert len(service["metadata"]["name"]) <= 63
    labels = [deployment["metadata"]["labels"], deployment["spec"]["template"]["metadata"]["labels"]]
    assert labels == [service["spec"]["selector"]] * 2 == [{"app": service["metadata"]["name"]}] * 2


@pytest.mark.parametrize(("state", "code"), [("AVAILABLE", 0), ("LOADING", 1)])
def test_health_check_of_compose_asks_by_bash_alone(state, code, files):
    (service,) = yaml.safe_load(files["docker-compose.yaml"])["services"].values()
    _, *command = service["healthcheck"]["test"]
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"model_version_status": [{"version": "1", "state": state}]}).encode())

        def log_message(self, *arguments):
            """Keeps the tests' output clean."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        command[-1] = command[-1].replace("8501", str(server.server_port))
        assert subprocess.run(command, timeout=30, check=False).returncode == code
    assert asked == ["/v1/models/Pets_2"]


@pytest.mark.parametrize("name", ["my pets", "-pets", "pets-", "p" * 64])
def test_names_that_cannot_be_served_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="is no name to serve a model by; use up to 63"):
        write_serving_files(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_warm_up_records_ask_every_signature(letters):
    _, exported = letters
    asked = {}
    for record in tf.data.TFRecordDataset(str(exported.path / FILE)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "letters"
        asked[request.model_spec.signature_name] = {
            name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()
        }
    loaded = tf.saved_model.load(str(exported.path))
    assert set(asked) == set(loaded.signatures)
    for signature, tensors in asked.items():
        outputs = loaded.signatures[signature](**{name: tf.constant(value) for name, value in tensors.items()})
        assert len(outputs["probabilities"]) == 1
    assert outputs["valid"].numpy().all()


def test_without_the_serving_api_one_line_says_so(tmp_path, monkeypatch, capsys):
    def miss(*arguments):
        raise ModuleNotFoundError('tensorflow_serving is not installed; run: pip install "keras_crossvit[serving]"')

    monkeypatch.setattr(saved_model_writer, "write_warm_up", miss)
    saved_model_writer._warm_up(tmp_path, "letters", {})
    assert capsys.readouterr().out == (
        "No warm-up records for TensorFlow Serving were written: tensorflow_serving is not installed; run: pip install "
        '"keras_crossvit[serving]"\n'
    )


def test_warm_up_takes_the_first_of_each_batch(tmp_path):
    write_warm_up(tmp_path, "x", {"a": {"image": np.zeros((3, 4))}, "b": {"image_bytes": [b"1", b"2"]}})
    records = tf.data.TFRecordDataset(str(tmp_path / FILE))
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    shapes = [
        [dimension.size for tensor in log.predict_log.request.inputs.values() for dimension in tensor.tensor_shape.dim]
        for log in logs
    ]
    assert shapes == [[1, 4], [1]]


def _configuration_files(arguments):
    return {argument.partition("=")[2] for argument in arguments if argument.endswith(".config")}


def _batching_parameters():
    """An empty `tensorflow.serving.BatchingParameters`, which tensorflow-serving-api leaves out."""
    fields = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    file = descriptor_pb2.FileDescriptorProto(name="batching.proto", package="batching", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="BatchingParameters")
    for number, name in enumerate(fields, start=1):
        message.field.add(name=name, number=number, type=11, label=1, type_name=".google.protobuf.Int64Value")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("batching.BatchingParameters"))()
