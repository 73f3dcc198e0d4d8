"""Classifies a photo with ONNX Runtime: `python with_onnx_runtime.py pets.onnx photo.jpg`."""

import json
import sys

import onnxruntime
from two_inputs import print_names, two_inputs

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
description = json.loads(session.get_modelmeta().custom_metadata_map["keras_crossvit"])
(logits,) = session.run(["logits"], two_inputs(sys.argv[2], description))
print_names(logits, description)
