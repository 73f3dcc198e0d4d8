"""Weights, images and labels, the same for every contender."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_crossvit.benchmark.work import Work
from keras_crossvit.checkpoints import state_dict
from keras_crossvit.data.preprocessing import resize_bicubic
from keras_crossvit.models import build_crossvit


def drawn_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
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


def write_data(work: Work, folder: Path) -> None:
    """Writes `weights.safetensors` by timm's names, and `data.npz` with both images and labels.

    The second image is made from the first by the reference's interpolation: timm, which takes the first alone, makes
    the same.
    """
    from safetensors.numpy import save_file

    shapes = {name: tensor.shape for name, tensor in state_dict(build_crossvit(work.config)).items()}
    save_file(drawn_weights(shapes, seed=1), folder / "weights.safetensors")
    random = np.random.RandomState(0)
    config = work.config
    small_patch_image = random.randn(work.batch_size, *config.image_sizes[0], config.in_channels).astype("float32")
    np.savez(
        folder / "data.npz",
        small_patch_image=small_patch_image,
        large_patch_image=resize_bicubic(small_patch_image, *config.image_sizes[1]).astype("float32"),
        labels=random.randint(0, config.num_classes, work.batch_size),
    )
