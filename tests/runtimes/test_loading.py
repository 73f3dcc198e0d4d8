"""Loading and running real files of every format."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.exporting.tracing import logits_function, saved_model_of
from keras_crossvit.runtimes.keras_model import KerasRuntime, logits_model
from keras_crossvit.runtimes.litert import LiteRTRuntime
from keras_crossvit.runtimes.metadata import metadata_of
from keras_crossvit.runtimes.saved_model import METADATA_FILE
from tests.helpers.backends import call
from tests.helpers.exports import confident_model, overflowing_model, small_model, write_export
from tests.helpers.models import images, tiny
from tests.helpers.processes import run_python

THREADS, CALLS = 6, 60
FILES = {
    "litert": ("model.tflite", 1),
    "litert of any batch size": ("any.tflite", None),
    "openvino": ("model.xml", None),
    "onnx": ("model.onnx", None),
}
LIBRARIES = {"litert": "ai_edge_litert", "openvino": "openvino", "onnx": "onnxruntime"}


def write(name, model, folder):
    folder.mkdir()
    if name == "keras":
        kc.save_checkpoint(model, folder / "model.keras")
        return folder / "model.keras"
    if name == "saved_model":
        with saved_model_of(logits_function(logits_model(model), None)) as staged:
            shutil.copytree(staged, folder / "1")
        (folder / "1" / METADATA_FILE).parent.mkdir()
        (folder / "1" / METADATA_FILE).write_text(metadata_of(model).to_json(), "utf-8")
        return folder
    file, batch_size = FILES[name]
    return write_export(model, folder / file, batch_size=batch_size or "dynamic")


@pytest.fixture(scope="module")
def model():
    return confident_model()


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """Files of the model by format."""
    folder = tmp_path_factory.mktemp("files")
    return {name: write(name, model, folder / name) for name in (*FILES, "saved_model")}


def require_own_answers(runtime, model, *, atol, apart):
    """Fails unless threads that share a runtime get the logits of their own images."""
    inputs = images(model, batch=THREADS)
    wanted = call(model, inputs)
    together = threading.Barrier(THREADS)

    def ask(number):
        own = [each[number : number + 1] for each in inputs]
        together.wait()
        return [runtime.logits(*own) for _ in range(CALLS)]

    with ThreadPoolExecutor(THREADS) as pool:
        answers = np.concatenate(list(pool.map(ask, range(THREADS))))
    assert np.abs(wanted - np.roll(wanted, 1, axis=0)).max(axis=1).min() > apart  # another answer would be seen
    wanted = np.repeat(wanted[:, None], CALLS, axis=1)
    np.testing.assert_allclose(answers.reshape(wanted.shape), wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["litert", "onnx"])
def test_a_changed_weight_is_found_and_files_of_earlier_versions_load(name, files, model, tmp_path):
    """A flipped bit of a weight would change the logits, or nothing that anybody sees."""
    inputs = images(model)
    content = files[name].read_bytes()
    kernel = np.asarray(model.get_layer("large_patch_head").kernel)
    position = max(content.find(order.astype("<f4").tobytes()) for order in (kernel, kernel.T))
    assert position > 0
    changed = bytearray(content)
    changed[position + 2] ^= 4
    path = tmp_path / files[name].name
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="SHA-256"):
        kc.load_runtime(path)
    path.write_bytes(content.replace(b"keras_crossvit_sha256", b"keras_crossvit_absent"))
    np.testing.assert_array_equal(kc.load_runtime(path).logits(*inputs), kc.load_runtime(files[name]).logits(*inputs))


@pytest.mark.parametrize("name", [*FILES, "saved_model"])
def test_threads_that_share_a_runtime_get_their_own_answers(name, files, model):
    runtime = kc.load_runtime(files[name], threads=1)
    require_own_answers(runtime, model, atol=1e-4, apart=0.1)  # float32 rounding of logits of about 10


@pytest.mark.backends
def test_threads_that_share_a_keras_model_get_their_own_answers():
    model = tiny()
    require_own_answers(KerasRuntime(model), model, atol=1e-6, apart=1e-4)


@pytest.mark.parametrize("name", ["litert", "openvino", "onnx", "saved_model", "keras"])
def test_logits_that_are_not_finite_are_an_error(name, tmp_path):
    model = overflowing_model()
    runtime = kc.load_runtime(write(name, model, tmp_path / "model"), threads=1)
    inputs = images(model)
    for compute in (runtime.logits, runtime.probabilities):
        with pytest.raises(ValueError, match=r"image 0 .*not finite"):
            compute(*inputs)


def test_keras_file_runs_with_any_activation(tmp_path):
    model, other = small_model(), small_model(classifier_activation="softmax")
    other.set_weights(model.get_weights())
    other.save(tmp_path / "model.keras")
    runtime = kc.load_runtime(tmp_path / "model.keras")
    inputs = images(model, batch=3)
    np.testing.assert_allclose(runtime.logits(*inputs), call(model, inputs), rtol=0, atol=1e-6)
    np.testing.assert_allclose(runtime.probabilities(*inputs), call(other, inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("model.txt", ValueError, r"model.txt' .*\.tflite, \.xml, \.onnx"),
        ("nowhere.tflite", FileNotFoundError, "nowhere.tflite'"),
        ("pipe.tflite", FileNotFoundError, "pipe.tflite'"),
        ("crossvit_9_dager", FileNotFoundError, "There is no model '.*crossvit_9_dager'"),
        ("", ValueError, "without a SavedModel"),
    ],
)
def test_path_without_a_model_is_an_error(name, error, message, tmp_path):
    (tmp_path / "model.txt").touch()
    os.mkfifo(tmp_path / "pipe.tflite")
    with pytest.raises(error, match=message):
        kc.load_runtime(tmp_path / name)


def test_a_model_that_a_killed_export_left_aside_is_named(tmp_path):
    aside = tmp_path / ".unfinished-0123-abc" / "tmpxyz"
    aside.mkdir(parents=True)
    (aside / "model.xml").touch()
    with pytest.raises(FileNotFoundError, match=r"was killed, and its files are in '.*tmpxyz'"):
        kc.load_runtime(tmp_path / "model.xml")


def test_loading_a_litert_file_imports_neither_keras_nor_tensorflow(files):
    program = """
import sys
import keras_crossvit as kc
runtime = kc.load_runtime(sys.argv[1])
print(runtime.name, sorted({"keras", "tensorflow"} & sys.modules.keys()))
"""
    assert run_python("-c", program, files["litert"]).stdout == "LiteRT []\n"


def test_quiet_loading_hides_what_the_library_prints_and_keeps_it_for_errors(files, capfd, monkeypatch):
    def fail(self, path, *, threads):
        os.write(2, b"a message of the library")
        raise ValueError("damaged")

    monkeypatch.setattr(LiteRTRuntime, "__init__", fail)
    for quiet in (False, True):
        with pytest.raises(ValueError, match="damaged") as raised:
            kc.load_runtime(files["litert"], quiet=quiet)
        assert ("a message" in capfd.readouterr().err) != quiet
    assert "a message" in raised.value.__notes__[0]


@pytest.mark.parametrize("name", LIBRARIES)
def test_file_runs_where_only_its_runtime_numpy_and_pillow_are_installed(name, files, tmp_path):
    Image.new("RGB", (60, 70), "teal").save(tmp_path / "teal.png")
    (tmp_path / "empty.png").touch()
    absent = {"keras", "tensorflow", "h5py", "safetensors", "sklearn", "onnx", *LIBRARIES.values()} - {LIBRARIES[name]}
    done = run_python("-c", PROGRAM_WITHOUT_KERAS, ",".join(absent), files[name], "teal.png", "empty.png", cwd=tmp_path)
    *lines, end = done.stdout.splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["teal.png"]
    assert end == "2 keras"
    assert "empty.png" in done.stderr
    assert "1 of 2" in done.stderr


PROGRAM_WITHOUT_KERAS = """
import sys
absent = sys.argv.pop(1).split(",")
for name in absent:
    sys.modules[name] = None
import keras_crossvit as kc
from keras_crossvit.cli import main as cli
code = cli.main(["predict", *sys.argv[1:], "--format", "jsonl"])
try:
    kc.crossvit_9
except ModuleNotFoundError as error:
    print(code, error.name)
"""


INTERRUPTED_AFTER_RUNTIMES = """
import signal, sys, threading
import keras_crossvit as kc
runtimes = [kc.load_runtime(path) for path in sys.argv[1:]]
thread = threading.Thread(target=runtimes.clear)
thread.start()
thread.join()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_interrupt_is_delivered_after_another_thread_has_deleted_runtimes(name, files):
    done = run_python("-c", INTERRUPTED_AFTER_RUNTIMES, files[name])
    assert done.stdout == "interrupted\n"
