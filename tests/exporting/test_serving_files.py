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
from keras_crossvit.exporting.serving_requests import WARM_UP_FILE, write_warm_up


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models") / "Pets_2"
    folder.mkdir()
    assert write_serving_files(folder) == write_serving_files(folder)  # which replaces existing files
    return {each.name: each.read_text() for each in folder.with_name("Pets_2.serving").iterdir()}


def test_models_config_is_parsed_by_tensorflow_serving(files):
    config = text_format.Parse(files["models.config"], model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("Pets_2", "/models/Pets_2", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 1


def test_batching_config_is_parsed_by_tensorflow_serving(files):
    parameters = text_format.Parse(files["batching.config"], _batching_parameters())
    assert parameters.max_batch_size.value == 16
    assert parameters.batch_timeout_micros.value == 2000
    assert parameters.num_batch_threads.value >= 1
    assert parameters.max_enqueued_batches.value >= parameters.num_batch_threads.value


def test_compose_file_mounts_the_model_and_its_configuration_into_the_official_image(files):
    (service,) = yaml.safe_load(files["docker-compose.yaml"])["services"].values()
    assert service["image"] == f"tensorflow/serving:{tf.__version__}"
    mounts = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert mounts["../Pets_2"] == "/models/Pets_2"
    used = {argument.partition("=")[2] for argument in service["command"] if argument.endswith(".config")}
    assert used == {mounts["./models.config"], mounts["./batching.config"]}
    assert set(files) == {"models.config", "batching.config", "docker-compose.yaml"}
    assert set(service["ports"]) == {"8500:8500", "8501:8501"}
    assert service["environment"] == {"TF_ENABLE_ONEDNN_OPTS": "1"}
    check = service["healthcheck"]["test"]
    assert check[:3] == ["CMD", "bash", "-c"]
    assert "GET /v1/models/Pets_2 HTTP/1.0\\r\\n\\r\\n" in check[3]


@pytest.mark.parametrize(("state", "code"), [("AVAILABLE", 0), ("LOADING", 1)])
def test_health_check_of_the_compose_file_works_without_curl(state, code, files):
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
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        command[-1] = command[-1].replace("8501", str(server.server_port))
        assert subprocess.run(command, timeout=30, check=False).returncode == code
    assert asked == ["/v1/models/Pets_2"]


@pytest.mark.parametrize("name", ["my pets", "-pets", "pets-", "p" * 64])
def test_names_that_cannot_be_served_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        write_serving_files(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_warm_up_requests_cover_every_signature(letters):
    _, exported = letters
    asked = {}
    for record in tf.data.TFRecordDataset(str(exported.path / WARM_UP_FILE)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "letters"
        asked[request.model_spec.signature_name] = {
            name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()
        }
    loaded = tf.saved_model.load(str(exported.path))
    assert {*asked, "serve"} == set(loaded.signatures)  # which is for Keras, not for TensorFlow Serving
    for signature, tensors in asked.items():
        outputs = loaded.signatures[signature](**{name: tf.constant(value) for name, value in tensors.items()})
        assert len(outputs["probabilities"]) == 1
    assert outputs["valid"].numpy().all()


def test_missing_serving_api_is_logged(tmp_path, monkeypatch, caplog):
    def fail(*arguments):
        raise ModuleNotFoundError("tensorflow_serving is not installed")

    monkeypatch.setattr(saved_model_writer, "write_warm_up", fail)
    with caplog.at_level("INFO"):
        saved_model_writer._warm_up(tmp_path, "letters", {})
    assert "tensorflow_serving is not installed" in caplog.text


def test_warm_up_uses_the_first_element_of_each_batch(tmp_path):
    write_warm_up(tmp_path, "x", {"a": {"image": np.zeros((3, 4))}, "b": {"image_bytes": [b"1", b"2"]}})
    records = tf.data.TFRecordDataset(str(tmp_path / WARM_UP_FILE))
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    shapes = [
        [dimension.size for tensor in log.predict_log.request.inputs.values() for dimension in tensor.tensor_shape.dim]
        for log in logs
    ]
    assert shapes == [[1, 4], [1]]


def _batching_parameters():
    """An empty `tensorflow.serving.BatchingParameters`, which tensorflow-serving-api does not include."""
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
