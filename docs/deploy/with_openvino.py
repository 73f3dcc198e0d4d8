"""Classifies a photo with OpenVINO and a file of one image: `python with_openvino.py pets.xml photo.jpg`."""

import json
import sys

import numpy as np
import openvino
from PIL import Image, ImageOps

model = openvino.Core().read_model(sys.argv[1])
description = json.loads(model.get_rt_info("keras_crossvit").value)
precision = model.get_rt_info("keras_crossvit_inference_precision").value  # that the file was checked with
classify = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
height, width = (model.input("image").partial_shape[i].get_length() for i in (1, 2))
image = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
# Resize until the crop is this fraction of the shorter side, and cut it out of the center.
cover = [int(size / description["preprocessing"]["crop_fraction"]) for size in (width, height)]
size = [max(cover[i], cover[1 - i] * image.size[i] // image.size[1 - i]) for i in (0, 1)]
left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
crop = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
probabilities = classify({"image": np.asarray(crop)[None]})["probabilities"][0]
for i in np.argsort(-probabilities)[:5]:
    print(f"{probabilities[i]:7.2%} {description['class_names'][i] if description['class_names'] else i}")
