"""Classifies a photo with LiteRT and a file of one image: `python with_litert.py pets.tflite photo.jpg`."""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import Model
from PIL import Image, ImageOps

model = Model.GetRootAs(Path(sys.argv[1]).read_bytes())
entries = {entry.Name(): entry.Buffer() for entry in map(model.Metadata, range(model.MetadataLength()))}
description = json.loads(model.Buffers(entries[b"keras_crossvit"]).DataAsNumpy().tobytes())
classify = Interpreter(sys.argv[1]).get_signature_runner("serving_default")
height, width = classify.get_input_details()["image"]["shape"][1:3]
image = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
# Resize until the crop is this fraction of the shorter side, and cut it out of the center.
cover = [int(size / description["preprocessing"]["crop_fraction"]) for size in (width, height)]
size = [max(cover[i], cover[1 - i] * image.size[i] // image.size[1 - i]) for i in (0, 1)]
left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
crop = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
probabilities = classify(image=np.asarray(crop)[None])["probabilities"][0]
for i in np.argsort(-probabilities)[:5]:
    print(f"{probabilities[i]:7.2%} {description['class_names'][i] if description['class_names'] else i}")
