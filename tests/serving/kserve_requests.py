"""Requests in the KServe v2 protocol, written without the package's client."""

import base64
import json
import re
import subprocess
import urllib.error
import urllib.request

import numpy as np
import tritonclient.grpc
from tritonclient.utils import np_to_triton_dtype

from keras_crossvit.exporting.serving_requests import encoded
from keras_crossvit.runtimes.runtime import INPUT_NAMES
from tests.helpers.processes import PROJECT

TIMEOUT = 30


def tensors(arrays):
    """Both inputs for `infer`."""
    return [
        {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in zip(INPUT_NAMES, arrays, strict=True)
    ]


def bytes_tensor(files):
    data = [base64.b64encode(each).decode() for each in files]
    return {"name": "image_bytes", "datatype": "BYTES", "shape": [len(data)], "data": data}


def infer(url, inputs, **fields):
    """Status and JSON of the answer to an inference request."""
    return post(f"{url}/infer", json.dumps({"inputs": inputs, **fields}).encode())


def post(url, body, **headers):
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def outputs_of(result):
    code, answer = result
    assert code == 200, answer
    return {each["name"]: np.reshape(each["data"], each["shape"]) for each in answer["outputs"]}


def run_documented_curl(address, url, folder):
    """JSON that the curl command of docs/serving.md for `address` prints, sent to `url` with a large image."""
    document = (PROJECT / "docs" / "serving.md").read_text()
    commands = re.findall(r"^\{ printf .*?-d @-$", document, re.DOTALL | re.MULTILINE)
    (command,) = (each for each in commands if address in each)
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype="uint8")
    (folder / "photo.jpg").write_bytes(encoded(noise, "PNG"))  # half a megabyte, too long for an argument
    done = subprocess.run(["bash", "-c", command.replace(address, url)], cwd=folder, capture_output=True, check=True)
    return json.loads(done.stdout)


def infer_grpc(server, arrays):
    """Outputs for both inputs, by name."""
    inputs = []
    for name, array in zip(INPUT_NAMES, arrays, strict=True):
        inputs.append(tritonclient.grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    with tritonclient.grpc.InferenceServerClient(server.grpc.split("/")[2]) as client:
        answer = client.infer("letters", inputs, client_timeout=TIMEOUT)
    return {each.name: answer.as_numpy(each.name) for each in answer.get_response().outputs}


def batches(server):
    """Number of batches that the runtime has computed, and of images in them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=TIMEOUT) as response:
        lines = response.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("images_per_batch_"))
    return float(values["images_per_batch_count"]), float(values["images_per_batch_sum"])
