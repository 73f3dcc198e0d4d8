"""Classifies a photo with OpenVINO: `python with_openvino.py pets.xml photo.jpg`."""

import json
import sys

import openvino
from two_inputs import print_names, two_inputs

model = openvino.Core().read_model(sys.argv[1])
description = json.loads(model.get_rt_info("keras_crossvit").value)
precision = model.get_rt_info("keras_crossvit_inference_precision").value  # that the file was checked with
compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
print_names(compiled(two_inputs(sys.argv[2], description))["logits"], description)
