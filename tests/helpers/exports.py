"""Small models and their exports, for tests."""

import importlib
import json
from pathlib import Path

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

import keras_crossvit as kc
from keras_crossvit.exporting.tracing import in_float32
from keras_crossvit.runtimes.metadata import metadata_of
from tests.helpers.models import tiny

CLASSES = ("ant", "bee", "cat", "dog", "emu")
# A fixed batch size for one of them, so that both ways are there.
FILES = {"litert": ("model.tflite", 2), "openvino": ("model.xml", None), "onnx": ("model.onnx", None)}


def small_model(**arguments):
    return tiny(**{"class_names": CLASSES, "depth": ((1, 1, 0),), **arguments})


def confident_model(**arguments):
    """A model whose fresh weights give far from equal probabilities, so that other inputs give other answers."""
    keras.utils.set_random_seed(0)
    model = small_model(**arguments)
    for weight in model.trainable_weights:
        if weight.path.endswith("kernel"):
            weight.assign(weight * 6)
    return model


def overflowing_model(**arguments):
    """A model whose weights are finite and whose logits are not."""
    model = confident_model(**arguments)
    for branch in ("small_patch", "large_patch"):
        kernel = model.get_layer(f"{branch}_head").kernel
        kernel.assign(np.full(kernel.shape, 3e38))
    return model


def export_all(model, folder):
    """Reports by format; each is a real export, in a process of its own."""
    return {name: kc.export(model, folder / name / file, batch_size=size) for name, (file, size) in FILES.items()}


def require_one_partition(path):
    """Fails unless XNNPACK has taken all of a LiteRT file, with no operation left over."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    *replaced, delegate = interpreter._get_ops_details()
    assert not {each["op_name"] for each in replaced} & {"DELEGATE", "CUSTOM"}
    assert delegate["op_name"] == "DELEGATE"
    # All that the delegate needs from outside are images and constants, and all that it gives is the output.
    made_outside = {int(tensor) for each in replaced for tensor in each["outputs"]}
    assert not made_outside & set(map(int, delegate["inputs"]))
    assert list(delegate["outputs"]) == [each["index"] for each in interpreter.get_output_details()]


def stored_report(report):
    return json.loads(Path(f"{report.path}.export_report.json").read_text())


def write_export(model, path, *, batch_size=None):
    """Writes an exported file without verifying it. Default batch size: 1 for LiteRT, "dynamic" for others."""
    name = {".tflite": "litert", ".xml": "openvino", ".onnx": "onnx"}[Path(path).suffix]
    size = batch_size or (1 if name == "litert" else "dynamic")
    writer = importlib.import_module(f"keras_crossvit.exporting.{name}_writer")
    writer.write(
        in_float32(model), path, metadata_of(model), quantize=None, batch_size=None if size == "dynamic" else size
    )
