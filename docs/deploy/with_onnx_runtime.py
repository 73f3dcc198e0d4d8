"""Classifies a photo with ONNX Runtime and a file of one image: `python with_onnx_runtime.py pets.onnx photo.jpg`."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
description = json.loads(session.get_modelmeta().custom_metadata_map["keras_crossvit"])
height, width = session.get_inputs()[0].shape[1:3]
image = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
# Resize until the crop is this fraction of the shorter side, and cut it out of the center.
cover = [int(size / description["preprocessing"]["crop_fraction"]) for size in (width, height)]
size = [max(cover[i], cover[1 - i] * image.size[i] // image.size[1 - i]) for i in (0, 1)]
left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
crop = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
(probabilities,) = session.run(["probabilities"], {"image": np.asarray(crop)[None]})[0]
for i in np.argsort(-probabilities)[:5]:
    print(f"{probabilities[i]:7.2%} {description['class_names'][i] if description['class_names'] else i}")
