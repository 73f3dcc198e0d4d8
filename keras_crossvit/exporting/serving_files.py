"""What starts the official TensorFlow Serving image on an exported model: its configuration, Docker's, Kubernetes'."""

from __future__ import annotations

import re
from importlib import metadata
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.files import write_text
from keras_crossvit._internal.served_name import require_served_name

MODELS_CONFIG = """\
# For tensorflow_model_server --model_config_file.
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""
BATCHING_CONFIG = """\
# For tensorflow_model_server --enable_batching --batching_parameters_file. Requests of a signature are joined that come
# within the time-out; raise both numbers on an accelerator.
max_batch_size { value: 16 }
batch_timeout_micros { value: 2000 }
# Batches at a time, and batches that may wait; more are refused at once as UNAVAILABLE.
num_batch_threads { value: 2 }
max_enqueued_batches { value: 64 }
"""
_ARGUMENTS = """\
- --model_config_file=/config/models.config
- --enable_batching=true
- --batching_parameters_file=/config/batching.config"""
COMPOSE = """\
# docker compose up; then keras-crossvit predict --server http://localhost:8501/v1/models/{name} PICTURES...
services:
  tensorflow-serving:
    image: tensorflow/serving:{tag}
    command:
{arguments_6}
    environment:
      # By itself, TensorFlow takes oneDNN's kernels on newer processors alone.
      TF_ENABLE_ONEDNN_OPTS: "1"
    ports:
      - "8500:8500"
      - "8501:8501"
    volumes:
      - {model_folder}:/models/{name}:ro
      - ./models.config:/config/models.config:ro
      - ./batching.config:/config/batching.config:ro
    restart: unless-stopped
    healthcheck:
      # The image has no curl; bash opens the connection itself.
      test:
        - CMD
        - bash
        - -c
        - >-
          exec 3<>/dev/tcp/127.0.0.1/8501
          && printf 'GET /v1/models/{name} HTTP/1.0\\r\\n\\r\\n' >&3
          && grep -q AVAILABLE <&3
      interval: 10s
      timeout: 5s
      retries: 3
      start_period: 60s
"""
KUBERNETES = """\
# kubectl apply -f kubernetes.yaml; the claim `models` has to hold the folder of versions as {name}/.
apiVersion: v1
kind: ConfigMap
metadata:
  name: {resource}-config
data:
  models.config: |
{models_config_4}
  batching.config: |
{batching_config_4}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {resource}
  labels: {{app: {resource}}}
spec:
  replicas: 1
  selector:
    matchLabels: {{app: {resource}}}
  template:
    metadata:
      labels: {{app: {resource}}}
    spec:
      containers:
        - name: tensorflow-serving
          image: tensorflow/serving:{tag}
          args:
{arguments_12}
          env:
            - {{name: TF_ENABLE_ONEDNN_OPTS, value: "1"}}
          ports:
            - {{name: grpc, containerPort: 8500}}
            - {{name: http, containerPort: 8501}}
          resources:
            requests: {{cpu: "1", memory: 1Gi}}
            limits: {{memory: 2Gi}}
          startupProbe:
            httpGet: {{path: /v1/models/{name}, port: http}}
            periodSeconds: 5
            failureThreshold: 60
          readinessProbe:
            httpGet: {{path: /v1/models/{name}, port: http}}
            periodSeconds: 5
            timeoutSeconds: 3
          livenessProbe:
            tcpSocket: {{port: grpc}}
            periodSeconds: 10
            failureThreshold: 3
          volumeMounts:
            - {{name: models, mountPath: /models, readOnly: true}}
            - {{name: config, mountPath: /config, readOnly: true}}
      volumes:
        - name: models
          persistentVolumeClaim: {{claimName: models}}
        - name: config
          configMap: {{name: {resource}-config}}
---
apiVersion: v1
kind: Service
metadata:
  name: {resource}
spec:
  selector: {{app: {resource}}}
  ports:
    - {{name: grpc, port: 8500, targetPort: grpc}}
    - {{name: http, port: 8501, targetPort: http}}
"""


def write_serving_files(folder: str | PathLike) -> Path:
    """Writes what starts the official TensorFlow Serving image on a model, beside the model.

    `<folder>.serving/` gets `models.config`, `batching.config`, `docker-compose.yaml` and `kubernetes.yaml`, which
    replace those of an earlier export. The image's tag is the version of TensorFlow that is installed.

    Args:
        folder: Folder of all versions of the model, whose name is the model's.

    Returns:
        The folder of the files.

    Raises:
        OSError: the place cannot be written.
        ValueError: the folder's name is none that URLs, Docker and TensorFlow Serving all take.
    """
    folder = Path(folder).absolute()
    require_served_name(folder.name)
    facts = {
        "name": folder.name,
        "resource": _resource_name(folder.name),
        "tag": metadata.version("tensorflow"),
        "model_folder": f"../{folder.name}",
        "arguments_6": _indented(_ARGUMENTS, 6),
        "arguments_12": _indented(_ARGUMENTS, 12),
    }
    models_config = MODELS_CONFIG.format(**facts)
    texts = {
        "models.config": models_config,
        "batching.config": BATCHING_CONFIG,
        "docker-compose.yaml": COMPOSE.format(**facts),
        "kubernetes.yaml": KUBERNETES.format(
            **facts,
            models_config_4=_indented(models_config, 4),
            batching_config_4=_indented(BATCHING_CONFIG, 4),
        ),
    }
    target = folder.with_name(f"{folder.name}.serving")
    for name, text in texts.items():
        write_text(target / name, text)
    return target


def _resource_name(name: str) -> str:
    """A name as Kubernetes takes it for a Service: up to 63 letters, digits and hyphens, the first one a letter.

    The prefix also keeps YAML from reading a name as a number, as true or as nothing.
    """
    return f"crossvit-{re.sub('[^a-z0-9]+', '-', name.lower())}"[:63].rstrip("-")


def _indented(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in text.rstrip().splitlines())
