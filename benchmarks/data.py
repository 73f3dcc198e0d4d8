"""Weights, images and labels, the same for every contender."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.workload import EPOCH_IMAGES, Workload
from keras_crossvit._internal.optional import require_library
from keras_crossvit.checkpoints import state_dict
from keras_crossvit.models.builders import build_crossvit
from keras_crossvit.preprocessing.transforms import resize_bicubic


def reference_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Weights of a size that keeps activations near 1, so that no tensor is without effect.

    Args:
        shapes: Shape of each tensor by its name in timm.
        seed: Fixes the drawing.

    Returns:
        Float32 tensors by the same names.
    """
    random = np.random.RandomState(seed)
    weights = {}
    for name, shape in shapes.items():
        z = random.randn(*shape).astype("float32")
        is_scale = name.endswith("weight") and len(shape) == 1
        spread = np.sqrt(np.prod(shape[1:])) if name.endswith("weight") and len(shape) > 1 else 5
        weights[name] = (is_scale + z / spread).astype("float32")
    return weights


def write_images(folder: Path) -> None:
    """Writes `EPOCH_IMAGES` photographs of 500 x 375 pixels as JPEG files: parts of scikit-learn's two."""
    load_sample_images = require_library("sklearn.datasets", "benchmark").load_sample_images
    photographs = load_sample_images().images
    random = np.random.default_rng(0)
    for number in range(EPOCH_IMAGES):
        photograph = photographs[number % len(photographs)]
        top = random.integers(photograph.shape[0] - 375 + 1)
        left = random.integers(photograph.shape[1] - 500 + 1)
        target = folder / "train" / f"class_{number % 2}" / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph[top : top + 375, left : left + 500]).save(target, quality=90)


def write_data(work: Workload, folder: Path) -> None:
    """Writes `weights.safetensors` by timm's names, and `data.npz` with both images and labels.

    The second image is made from the first by the reference's interpolation: timm, which takes the first alone, makes
    the same.
    """
    from safetensors.numpy import save_file

    shapes = {name: tensor.shape for name, tensor in state_dict(build_crossvit(work.config)).items()}
    save_file(reference_weights(shapes, seed=1), folder / "weights.safetensors")
    random = np.random.RandomState(0)
    config = work.config
    small_patch_image = random.randn(work.batch_size, *config.image_sizes[0], config.in_channels).astype("float32")
    np.savez(
        folder / "data.npz",
        small_patch_image=small_patch_image,
        large_patch_image=resize_bicubic(small_patch_image, *config.image_sizes[1]).astype("float32"),
        labels=random.randint(0, config.num_classes, work.batch_size),
    )
