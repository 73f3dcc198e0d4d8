"""Runs the SavedModel in a C program without Python, with the loader that TensorFlow Serving uses."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_crossvit.exporting.serving_requests import example_requests

TENSORFLOW = Path(tf.__file__).parent


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "a C compiler is needed"
    path = tmp_path_factory.mktemp("program") / "run_saved_model"
    libraries = [f"-l:{next(TENSORFLOW.glob(f'libtensorflow_{name}.so*')).name}" for name in ("cc", "framework")]
    command = [compiler, "-Wall", "-Werror", "-o", path, Path(__file__).with_name("run_saved_model.c")]
    command += [f"-I{TENSORFLOW}/include", f"-L{TENSORFLOW}", *libraries, f"-Wl,-rpath,{TENSORFLOW}"]
    if shutil.which("ld.gold"):  # reads a gigabyte of TensorFlow in a sixth of the time
        command.append("-fuse-ld=gold")
    subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return path


@pytest.fixture(scope="module")
def ran(program, letters, tmp_path_factory):
    """Lines that the program printed, the requests, and its outputs by signature and name."""
    model, exported = letters
    folder = tmp_path_factory.mktemp("tensors")
    graph = saved_model_pb2.SavedModel.FromString((exported.path / "saved_model.pb").read_bytes()).meta_graphs[0]
    wrong = {"serving_default": {"small_patch_image": np.zeros((1, 5, 5, 3), "float32")}}
    wrong["serving_default"]["large_patch_image"] = np.zeros((1, 32, 32, 3), "float32")
    requests = example_requests(model)
    plan, wanted = [], {}
    for number, (signature, tensors) in enumerate([*wrong.items(), *requests.items()]):
        signature_def = graph.signature_def[signature]
        for name, value in tensors.items():
            file = folder / f"{number}-{name}"
            dtype, shape = _store(value, file)
            sizes = " ".join(map(str, shape))
            plan.append(f"feed {signature_def.inputs[name].name} {dtype} {len(shape)} {sizes} {file}")
        for name, tensor in signature_def.outputs.items():
            wanted[signature, name] = folder / f"{number}-{signature}-{name}"
            plan.append(f"fetch {tensor.name} {wanted[signature, name]}")
        plan.append("run")
    done = subprocess.run([program, exported.path], input="\n".join(plan), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs = {}
    for (signature, name), file in wanted.items():
        outputs.setdefault(signature, {})[name] = _load(file)
    return done.stdout.splitlines(), requests, outputs


def test_the_process_has_no_python_and_survives_a_bad_request(ran):
    lines, requests, _ = ran
    assert re.search(r"small_patch_image\S* \[1,5,5,3\] is not compatible with expected shape \[\?,48,48,3\]", lines[0])
    assert lines[1:] == [*["ran"] * len(requests), "no python"]


def test_every_signature_matches_python(ran, letters):
    _, requests, outputs = ran
    _, exported = letters
    loaded = tf.saved_model.load(str(exported.path)).signatures
    assert set(outputs) == {"serving_default", "single_image", "single_image_float", "image_bytes"}
    assert set(loaded) == {*outputs, "serve"}  # for Keras: serving_default without the inputs' names
    for signature, tensors in requests.items():
        expected = loaded[signature](**{name: tf.constant(value) for name, value in tensors.items()})
        for name, tensor in expected.items():
            if tensor.dtype.is_floating:
                np.testing.assert_allclose(outputs[signature][name], tensor, rtol=0, atol=1e-6)
            else:
                np.testing.assert_array_equal(outputs[signature][name], tensor.numpy().tolist())


def test_invalid_image_files_are_marked(ran):
    _, _, outputs = ran
    assert outputs["image_bytes"]["valid"].tolist() == [True, True, False, False, False, False]


def _store(value, file):
    """Writes a tensor in the format of the program; returns its dtype number and shape."""
    if isinstance(value, list):
        file.write_bytes(b"".join(struct.pack("<Q", len(each)) + each for each in value))
        return tf.string.as_datatype_enum, (len(value),)
    file.write_bytes(np.ascontiguousarray(value).tobytes())
    return tf.as_dtype(value.dtype).as_datatype_enum, value.shape


def _load(file):
    header, _, body = file.read_bytes().partition(b"\n")
    dtype, _, *shape = map(int, header.split())
    if dtype != tf.string.as_datatype_enum:
        return np.frombuffer(body, tf.as_dtype(dtype).as_numpy_dtype).reshape(shape)
    texts, start = [], 0
    while start < len(body):
        (length,) = struct.unpack_from("<Q", body, start)
        texts.append(body[start + 8 : start + 8 + length])
        start += 8 + length
    return np.array(texts, "S").reshape(shape)
