"""Classifies a photo with LiteRT: `python with_litert.py pets.tflite photo.jpg`."""

import json
import sys
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import Model
from two_inputs import print_names, two_inputs

interpreter = Interpreter(sys.argv[1])
model = Model.GetRootAs(Path(sys.argv[1]).read_bytes())
entries = {entry.Name(): entry.Buffer() for entry in map(model.Metadata, range(model.MetadataLength()))}
description = json.loads(model.Buffers(entries[b"keras_crossvit"]).DataAsNumpy().tobytes())
classify = interpreter.get_signature_runner("serving_default")
print_names(classify(**two_inputs(sys.argv[2], description))["logits"], description)
