"""The peer of the input pipeline: Pillow, timm's RandAugment and erasing, PyTorch's loader and interpolation.

The random resized crop is written out here, since timm's needs torchvision. Imports neither Keras nor this package.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import random
from pathlib import Path
from typing import Any


def prepare(task: dict[str, Any]) -> _Loader:
    """The contender for a task of the worker's."""
    return _Loader(task, sorted(Path(task["folder"], "images").rglob("*.jpg")))


def _import_timm() -> Any:
    path = Path(__file__).with_name("timm_contender.py")
    spec = importlib.util.spec_from_file_location("timm_contender", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.import_timm()


class _Images:
    """PyTorch's map-style data set of augmented small-patch images."""

    def __init__(self, paths: list[Path], size: tuple[int, int]) -> None:
        _import_timm()
        from timm.data.auto_augment import rand_augment_transform
        from timm.data.random_erasing import RandomErasing

        self._paths, self._size = paths, size
        gray = tuple(round(255 * each) for each in (0.485, 0.456, 0.406))
        self._rand_augment = rand_augment_transform("rand-m9-mstd0.5-inc1", {"translate_const": 100, "img_mean": gray})
        self._erase = RandomErasing(0.25, mode="pixel", device="cpu")

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Any:
        import numpy as np
        import torch
        from PIL import Image

        with Image.open(self._paths[index]) as file:
            image = file.convert("RGB")
        height, width = self._size
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=_crop_box(*image.size))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        with contextlib.suppress(ValueError):  # timm posterizes to 0 bits in 1 of 50 draws, which Pillow 13 refuses
            image = self._rand_augment(image)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return self._erase((pixels - mean[:, None, None]) / std[:, None, None])


def _crop_box(width: int, height: int) -> tuple[float, float, float, float]:
    """Window of 8 to 100 % of the area and a ratio of 3/4 to 4/3, as the paper's recipe draws it."""
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1.0)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if crop_width <= width and crop_height <= height:
            left, top = random.randint(0, width - crop_width), random.randint(0, height - crop_height)
            return (left, top, left + crop_width, top + crop_height)
    side = min(width, height)
    return ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)


class _Loader:
    """An epoch of the same augmentation, in as many processes as there are processors to use."""

    def __init__(self, task: dict[str, Any], paths: list[Path]) -> None:
        import torch

        torch.set_num_threads(1)
        (small_patch_size, self._large_patch_size) = task["image_sizes"]
        self._batches = torch.utils.data.DataLoader(
            _Images(paths, tuple(small_patch_size)),
            batch_size=task["work"]["batch_size"],
            shuffle=True,
            num_workers=task["work"]["threads"],
            persistent_workers=True,
        )

    def step(self) -> None:
        import torch

        for images in self._batches:
            torch.nn.functional.interpolate(images, size=self._large_patch_size, mode="bicubic")
