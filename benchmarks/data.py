"""Writes the weights, images and labels that all runners share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.workload import EPOCH_IMAGES, Workload
from keras_crossvit._internal.optional import require_library


def reference_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Returns random float32 weights that keep activations near 1, so that every tensor has an effect.

    Args:
        shapes: Shape of each tensor by its name in timm.
        seed: Seed of the random numbers.
    """
    random = np.random.RandomState(seed)
    weights = {}
    for name, shape in shapes.items():
        z = random.randn(*shape).astype("float32")
        is_scale = name.endswith("weight") and len(shape) == 1
        spread = np.sqrt(np.prod(shape[1:])) if name.endswith("weight") and len(shape) > 1 else 5
        weights[name] = (is_scale + z / spread).astype("float32")
    return weights


def write_data(workload: Workload, folder: Path) -> None:
    """Writes what the workload reads: JPEG files, weights by timm's names, a batch of images and labels."""
    if workload.mode in EPOCH_IMAGES:
        _write_photographs(folder / "images", workload.num_images)
    if workload.mode == "pipeline":
        return
    from safetensors.numpy import save_file

    from keras_crossvit.checkpoints import state_dict
    from keras_crossvit.models.builders import build_crossvit
    from keras_crossvit.preprocessing.transforms import resize_bicubic

    config = workload.config
    shapes = {name: tensor.shape for name, tensor in state_dict(build_crossvit(config)).items()}
    save_file(reference_weights(shapes, seed=1), folder / "weights.safetensors")
    random = np.random.RandomState(0)
    images = random.randn(workload.batch_size, *config.image_sizes[0], config.in_channels).astype("float32")
    np.savez(
        folder / "data.npz",
        small_patch_image=images,
        # As timm, which takes the first image only, makes the second from it.
        large_patch_image=resize_bicubic(images, *config.image_sizes[1]).astype("float32"),
        labels=random.randint(0, config.num_classes, workload.batch_size),
    )


def _write_photographs(folder: Path, count: int) -> None:
    """Writes crops of 500x375 pixels from scikit-learn's two photographs."""
    from PIL import Image

    photographs = require_library("sklearn.datasets", "benchmark").load_sample_images().images
    random = np.random.default_rng(0)
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        top = random.integers(photograph.shape[0] - 375 + 1)
        left = random.integers(photograph.shape[1] - 500 + 1)
        target = folder / "train" / f"class_{number % 2}" / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph[top : top + 375, left : left + 500]).save(target, quality=90)
