"""Requests that TensorFlow Serving runs when it loads a model, so that no client waits for the first one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_crossvit.errors import disk_reason_of
from keras_crossvit.optional import require_library

FILE = Path("assets.extra", "tf_serving_warmup_requests")  # where TensorFlow Serving looks


def write_warm_up(saved_model: Path, name: str, requests: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes a warm-up record per signature into a SavedModel.

    Args:
        saved_model: Folder of the version.
        name: The model's name for TensorFlow Serving.
        requests: Tensors by signature and name; lists of bytes for strings. Of each the first element is taken.

    Raises:
        OSError: the place cannot be written.
        ModuleNotFoundError: tensorflow-serving-api is missing; the message says how to install it.

    Source: tensorflow.org/tfx/serving/saved_model_warmup.
    """
    predict = require_library("tensorflow_serving.apis.predict_pb2", "serving")
    logs = require_library("tensorflow_serving.apis.prediction_log_pb2", "serving")
    tensorflow = require_library("tensorflow")
    logged = []
    for signature, tensors in requests.items():
        request = predict.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = signature
        for tensor, values in tensors.items():
            first = values[:1] if isinstance(values, list) else np.ascontiguousarray(values[:1])
            request.inputs[tensor].CopyFrom(tensorflow.make_tensor_proto(first))
        logged.append(logs.PredictionLog(predict_log=logs.PredictLog(request=request)))
    (saved_model / FILE).parent.mkdir(exist_ok=True)
    try:
        with tensorflow.io.TFRecordWriter(str(saved_model / FILE)) as file:
            for log in logged:
                file.write(log.SerializeToString())
    except tensorflow.errors.OpError as error:
        raise OSError(
            f"TensorFlow cannot write warm-up records ({disk_reason_of(error)}); make room on the disk."
        ) from error
