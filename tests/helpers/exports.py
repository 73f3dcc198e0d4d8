"""Small models and their exports, for tests."""

import json
from pathlib import Path

import keras_crossvit as kc
from tests.helpers.models import tiny

CLASSES = ("ant", "bee", "cat", "dog", "emu")
# A fixed batch size for one of them, so that both ways are there.
FILES = {"litert": ("model.tflite", 2), "openvino": ("model.xml", None), "onnx": ("model.onnx", None)}


def small_model(**arguments):
    return tiny(**{"classes": CLASSES, "depth": ((1, 1, 0),), **arguments})


def export_all(model, folder):
    """Reports by format; each is a real export, in a process of its own."""
    return {name: kc.export(model, folder / name / file, batch_size=size) for name, (file, size) in FILES.items()}


def stored_report(report):
    return json.loads(Path(f"{report.path}.export_report.json").read_text())
