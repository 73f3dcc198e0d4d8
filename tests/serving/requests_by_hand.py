"""Requests by the KServe v2 protocol, for tests of servers."""

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

SECONDS = 30


def tensors(arrays):
    """Both inputs as REST takes them."""
    return [
        {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in zip(INPUT_NAMES, arrays, strict=True)
    ]


def by_name(arrays):
    """Both inputs as `ask_by_grpc` takes them."""
    return dict(zip(INPUT_NAMES, arrays, strict=True))


def bytes_tensor(files):
    data = [base64.b64encode(each).decode() for each in files]
    return {"name": "image_bytes", "datatype": "BYTES", "shape": [len(data)], "data": data}


def post(url, inputs, *, body=None):
    """Status and JSON of an answer to a request for inference."""
    return post_to(f"{url}/infer", json.dumps({"inputs": inputs}).encode() if body is None else body)


def post_to(url, body):
    """Status and JSON of an answer."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def outputs_of(answered):
    code, answer = answered
    assert code == 200, answer
    return {each["name"]: np.reshape(each["data"], each["shape"]) for each in answer["outputs"]}


def ask_as_documented(address, url, folder):
    """JSON of the answer to the curl command of docs/serving.md for `address`, sent to `url` with a large picture."""
    document = (PROJECT / "docs" / "serving.md").read_text()
    commands = re.findall(r"^\{ printf .*?-d @-$", document, re.DOTALL | re.MULTILINE)
    (command,) = (each for each in commands if address in each)
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype="uint8")
    (folder / "photo.jpg").write_bytes(encoded(noise, "PNG"))  # of half a megabyte, more than an argument may have
    done = subprocess.run(["bash", "-c", command.replace(address, url)], cwd=folder, capture_output=True, check=True)
    return json.loads(done.stdout)


def ask_by_grpc(server, arrays):
    """The outputs for arrays by name, of which lists of bytes are one."""
    inputs = []
    for name, values in arrays.items():
        array = np.array(values, dtype=object) if isinstance(values, list) else values
        inputs.append(tritonclient.grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    with tritonclient.grpc.InferenceServerClient(server.grpc.split("/")[2]) as client:
        answer = client.infer("letters", inputs, client_timeout=SECONDS)
    return {each.name: answer.as_numpy(each.name) for each in answer.get_response().outputs}


def batches(server):
    """How often the runtime has been called, and for how many pictures."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=SECONDS) as response:
        lines = response.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("pictures_per_batch_"))
    return float(values["pictures_per_batch_count"]), float(values["pictures_per_batch_sum"])
