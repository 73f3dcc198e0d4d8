"""The programs of docs/deploy, in processes without Keras, TensorFlow and this package."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from tests.helpers.exports import confident_model, write_export
from tests.helpers.processes import PROJECT
from tests.helpers.shared import made_once

PROGRAMS = PROJECT / "docs" / "deploy"
BLOCKED = ("keras", "tensorflow", "keras_crossvit")
SIZES = {"wide": (90, 61), "tall": (53, 127), "square": (40, 40)}


@pytest.fixture(scope="module")
def model():
    return confident_model(img_size=(48, (32, 48)))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Files of every format, images, and a folder for PYTHONPATH in which Keras and TensorFlow are missing."""

    def make(folder):
        for name, size in SIZES.items():
            pixels = np.random.default_rng(len(name)).integers(0, 256, (9, 9, 3), dtype="uint8")
            Image.fromarray(pixels).resize(size).save(folder / f"{name}.jpg", exif=_turned(name == "tall"))
        for file in ("model.tflite", "model.onnx"):
            write_export(model, folder / file, inputs="image")
        write_export(model, folder / "both.onnx")
        (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({BLOCKED}))\n")
        return folder

    return made_once(tmp_path_factory, "deploy", make)


def _turned(is_turned):
    exif = Image.Exif()
    exif[0x0112] = 6 if is_turned else 1
    return exif


def printed_by(program, folder, file, image):
    done = subprocess.run(
        [sys.executable, PROGRAMS / program, file, image],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: float(percent) for percent, name in re.findall(r"^ *([\d.]+)% (\w+)$", done.stdout, re.MULTILINE)}


def expected(model, image):
    logits = np.asarray(model(kc.preprocess(image, model)))
    (best,) = kc.decode_predictions(np.exp(logits) / np.exp(logits).sum(), class_names=model.class_names)
    return {name: 100 * probability for _, name, probability in best}


@pytest.mark.parametrize(
    ("program", "file", "image"),
    [
        ("with_litert.py", "model.tflite", "wide"),
        ("with_litert.py", "model.tflite", "tall"),
        ("with_onnx_runtime.py", "model.onnx", "square"),
        ("with_openvino.py", "model.xml", "wide"),
        ("two_inputs.py", "both.onnx", "tall"),
    ],
)
def test_programs_print_the_probabilities_of_the_model(program, file, image, folder, model):
    if file == "model.xml":
        pytest.importorskip("openvino")
        write_export(model, folder / file, inputs="image")
    printed = printed_by(program, folder, file, f"{image}.jpg")
    assert list(printed) == list(expected(model, folder / f"{image}.jpg"))
    # A hundredth of a percent is printed; a value of the first input may be rounded the other way (1 of 255).
    assert printed == pytest.approx(expected(model, folder / f"{image}.jpg"), abs=0.02)


def test_processes_of_this_test_have_no_keras(folder):
    for library in BLOCKED:
        command = [sys.executable, "-c", f"import {library}"]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True)
        assert "ModuleNotFoundError" in done.stderr
