"""Small models and their exports."""

import json
from pathlib import Path

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

import keras_crossvit as kc
from keras_crossvit.exporting.exporter import convert
from keras_crossvit.exporting.options import resolve_options
from tests.helpers.models import tiny

CLASSES = ("ant", "bee", "cat", "dog", "emu")
# File and batch size by format; LiteRT stands for files of a fixed batch size.
FILES = {"litert": ("model.tflite", 2), "openvino": ("model.xml", None), "onnx": ("model.onnx", None)}


def small_model(**arguments):
    return tiny(**{"class_names": CLASSES, **arguments})


def confident_model(**arguments):
    """A model with random weights whose probabilities are far from equal, so that they depend on the input."""
    keras.utils.set_random_seed(0)
    model = small_model(**arguments)
    for weight in model.trainable_weights:
        if weight.path.endswith("kernel"):
            weight.assign(weight * 6)
    return model


def overflowing_model(**arguments):
    """A model with finite weights whose logits are not finite."""
    model = confident_model(**arguments)
    for branch in ("small_patch", "large_patch"):
        kernel = model.get_layer(f"{branch}_head").kernel
        kernel.assign(np.full(kernel.shape, 3e38))
    return model


def export_all(model, folder):
    """Exports a model to every file format, with all checks, and returns the results by format."""
    return {name: kc.export(model, folder / name / file, batch_size=size) for name, (file, size) in FILES.items()}


def write_export(model, path, **options):
    """Writes a file without comparing it with the model; the options are those of `kc.export`."""
    convert(model, path, resolve_options(path, **options))
    return path


def require_one_partition(path):
    """Fails unless XNNPACK runs all operations of a LiteRT file as one partition."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    *replaced, delegate = interpreter._get_ops_details()
    assert not {each["op_name"] for each in replaced} & {"DELEGATE", "CUSTOM"}
    assert delegate["op_name"] == "DELEGATE"
    # Its inputs are images and constants only, and its only outputs are those of the file.
    computed_outside = {int(tensor) for each in replaced for tensor in each["outputs"]}
    assert not computed_outside & set(map(int, delegate["inputs"]))
    assert set(delegate["outputs"]) == {each["index"] for each in interpreter.get_output_details()}


def stored_result(result):
    return json.loads(Path(f"{result.path}.export_report.json").read_text())
