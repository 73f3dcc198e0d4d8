"""Classifies a photo with ONNX Runtime and a file of both inputs: `python two_inputs.py pets.onnx photo.jpg`."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def bicubic(size: int, new_size: int) -> np.ndarray:
    """Returns the matrix that resizes an axis as PyTorch does; Pillow and OpenCV have other coefficients."""
    weights = np.zeros((new_size, size))
    for i, center in enumerate((np.arange(new_size) + 0.5) * size / new_size - 0.5):
        for j in range(int(np.floor(center)) - 1, int(np.floor(center)) + 3):
            d = abs(center - j)
            weight = 1.25 * d**3 - 2.25 * d**2 + 1 if d <= 1 else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
            weights[i, min(max(j, 0), size - 1)] += weight
    return weights


session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
description = json.loads(session.get_modelmeta().custom_metadata_map["keras_crossvit"])
facts = description["preprocessing"]
(height, width), large_size = (each.shape[1:3] for each in session.get_inputs())
image = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
# Resize until the crop is this fraction of the shorter side, and cut it out of the center.
cover = [int(size / facts["crop_fraction"]) for size in (width, height)]
size = [max(cover[i], cover[1 - i] * image.size[i] // image.size[1 - i]) for i in (0, 1)]
left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
crop = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
small = (np.asarray(crop, "float32")[None] / 255 - facts["mean"]) / facts["std"]
rows, columns = (bicubic(*sizes) for sizes in zip((height, width), large_size, strict=True))
large = np.einsum("yh,bhwc,xw->byxc", rows, small, columns, optimize=True)
inputs = {"small_patch_image": small.astype("float32"), "large_patch_image": large.astype("float32")}
logits = session.run(["logits"], inputs)[0][0] / description["calibration"]["temperature"]
if description["classifier_activation"] == "sigmoid" or len(logits) == 1:
    probabilities = 1 / (1 + np.exp(-logits))
else:
    powers = np.exp(logits - logits.max())
    probabilities = powers / powers.sum()
for i in np.argsort(-probabilities)[:5]:
    print(f"{probabilities[i]:7.2%} {description['class_names'][i] if description['class_names'] else i}")
