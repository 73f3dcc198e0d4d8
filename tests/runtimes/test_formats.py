"""Every format, by real files of a tiny model: shared by threads, and asked for what floats cannot hold."""

import importlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.exporting.tracing import in_float32, plain_saved_model
from keras_crossvit.runtimes.metadata import metadata_of
from keras_crossvit.runtimes.saved_model import METADATA_FILE
from tests.helpers.backends import call
from tests.helpers.exports import confident_model, overflowing_model
from tests.helpers.models import images

THREADS, CALLS = 6, 60
FILES = {
    "litert": ("litert", "model.tflite", 1),
    "litert of any batch size": ("litert", "any.tflite", None),
    "openvino": ("openvino", "model.xml", None),
    "onnx": ("onnx", "model.onnx", None),
}


@pytest.fixture(scope="module")
def model():
    return confident_model()


def write(name, model, folder):
    """The file of a model in a format, not compared with the model."""
    folder.mkdir()
    if name == "keras":
        kc.save_checkpoint(model, folder / "model.keras")
        return folder / "model.keras"
    if name == "saved_model":
        with plain_saved_model(in_float32(model), None) as unfinished:
            shutil.copytree(unfinished, folder / "1")
        (folder / "1" / METADATA_FILE).parent.mkdir()
        (folder / "1" / METADATA_FILE).write_text(metadata_of(model).to_json(), "utf-8")
        return folder
    writer, file, batch_size = FILES[name]
    module = importlib.import_module(f"keras_crossvit.exporting.{writer}")
    module.write(in_float32(model), folder / file, metadata_of(model), quantize=None, batch_size=batch_size)
    return folder / file


@pytest.mark.parametrize("name", [*FILES, "saved_model", "keras"])
def test_threads_that_share_a_runtime_get_their_own_answers(name, model, tmp_path):
    runtime = kc.load_runtime(write(name, model, tmp_path / "model"), threads=1)
    inputs = images(model, batch=THREADS)
    wanted = call(model, inputs)
    together = threading.Barrier(THREADS)

    def ask(number):
        own = [each[number : number + 1] for each in inputs]
        together.wait()
        return [runtime.logits(*own) for _ in range(CALLS)]

    with ThreadPoolExecutor(THREADS) as pool:
        answers = np.concatenate(list(pool.map(ask, range(THREADS))))
    assert np.abs(wanted - np.roll(wanted, 1, axis=0)).max(axis=1).min() > 0.1  # another's answer would be seen
    # float32 rounding of logits of about 10.
    np.testing.assert_allclose(answers.reshape(THREADS, CALLS, -1), np.repeat(wanted[:, None], CALLS, 1), atol=1e-4)


@pytest.mark.parametrize("name", ["litert", "openvino", "onnx", "saved_model", "keras"])
def test_logits_that_are_not_finite_are_an_error(name, tmp_path):
    model = overflowing_model()
    runtime = kc.load_runtime(write(name, model, tmp_path / "model"), threads=1)
    inputs = images(model)
    for answer in (runtime.logits, runtime.probabilities):
        with pytest.raises(ValueError, match=r"image 0 .*not finite"):
            answer(*inputs)
