"""Runs timm's CrossViT on PyTorch, and an input pipeline of Pillow, timm's augmentation and PyTorch's loader.

Keras is not imported, so that the memory of the process is PyTorch's.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.torchvision_stub import import_timm
from benchmarks.workload import Workload
from keras_crossvit.models.variants import get_variant

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def channels_first(images: np.ndarray) -> np.ndarray:
    """Transposes images of shape (B, H, W, 3) to PyTorch's (B, 3, H, W)."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def load_model(workload: Workload, folder: Path) -> Any:
    """Returns timm's model with the shared weights, in inference mode."""
    from safetensors.torch import load_file

    size = {} if workload.image_size is None else {"img_size": workload.image_size}
    model = import_timm().create_model(get_variant(workload.model).timm_name, **size)
    model.load_state_dict(load_file(folder / "weights.safetensors"), strict=True)
    return model.eval()


class _Measured:
    """The model and a batch, on the GPU if there is one; there in channels-last order."""

    def __init__(self, workload: Workload, folder: Path, *, compiler: str) -> None:
        torch.set_num_threads(workload.threads)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._workload, data = workload, np.load(folder / "data.npz")
        self._model = load_model(workload, folder).train(workload.mode == "training").to(self._device)
        self._images = torch.from_numpy(channels_first(data["small_patch_image"])).to(self._device)
        self._labels = torch.from_numpy(data["labels"]).to(self._device)
        if self._device == "cuda":
            self._model.to(memory_format=torch.channels_last)
            self._images = self._images.contiguous(memory_format=torch.channels_last)
        self._forward = torch.compile(self._model) if compiler == "inductor" else self._model

    def _logits(self) -> torch.Tensor:
        use_bfloat16 = self._workload.precision == "bfloat16"
        with torch.autocast(self._device, torch.bfloat16, enabled=use_bfloat16):
            return self._forward(self._images).float()

    def peak_bytes(self) -> int:
        """Returns the peak memory of the GPU, or 0."""
        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


class Inference(_Measured):
    """Runs a batch through the model and copies the logits to the host."""

    def step(self) -> np.ndarray:
        """Returns the logits."""
        with torch.inference_mode():
            return self._logits().cpu().numpy()


class Training(_Measured):
    """Takes steps of AdamW on the cross-entropy."""

    def __init__(self, workload: Workload, folder: Path, *, compiler: str) -> None:
        super().__init__(workload, folder, compiler=compiler)
        self._optimizer = torch.optim.AdamW(self._model.parameters(), 1e-4, eps=1e-7, weight_decay=0.05)

    def step(self) -> np.ndarray:
        """Returns the loss."""
        return np.asarray([self._take_step().item()], "float32")

    def time_steps(self, number: int) -> list[float]:
        """Takes a step that is not timed, then `number` more, and returns the seconds between their ends."""
        ends: list[Any] = []
        for _ in range(1 + number):
            self._take_step()
            ends.append(self._end_of_step())
        if self._device == "cpu":
            return [end - start for start, end in itertools.pairwise(ends)]
        torch.cuda.synchronize()
        return [start.elapsed_time(end) / 1000 for start, end in itertools.pairwise(ends)]

    def _end_of_step(self) -> Any:
        if self._device == "cpu":
            return time.perf_counter()
        end = torch.cuda.Event(enable_timing=True)  # so that the next step need not wait for this one
        end.record()
        return end

    def _take_step(self) -> torch.Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(self._logits(), self._labels)
        loss.backward()
        self._optimizer.step()
        return loss.detach()


class Files(_Measured):
    """Classifies JPEG files: Pillow resizes and crops them in PyTorch's loader, with a worker process per thread."""

    def __init__(self, workload: Workload, folder: Path, *, compiler: str) -> None:
        super().__init__(workload, folder, compiler=compiler)
        self._batches = torch.utils.data.DataLoader(
            _EvaluationImages(sorted((folder / "images").rglob("*.jpg")), workload.config.image_sizes[0]),
            batch_size=workload.batch_size,
            num_workers=workload.threads,
            persistent_workers=True,
        )

    def step(self) -> np.ndarray:
        """Returns the logits of all files."""
        logits = []
        with torch.inference_mode():
            for images in self._batches:
                self._images = images.to(self._device)
                logits.append(self._logits().cpu().numpy())
        return np.concatenate(logits)


class _EvaluationImages(torch.utils.data.Dataset):
    """Images as timm evaluates them; its transform needs torchvision, whose resizing is Pillow's."""

    def __init__(self, paths: list[Path], size: tuple[int, int]) -> None:
        self._paths, self._size = paths, size
        self._mean, self._std = (torch.tensor(each)[:, None, None] for each in (_MEAN, _STD))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        from PIL import Image

        with Image.open(self._paths[index]) as file:
            image = file.convert("RGB")
        height, width = self._size
        shorter = int(min(height, width) / 0.875)
        scale = shorter / min(image.size)
        image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        pixels = torch.from_numpy(np.array(image.crop((left, top, left + width, top + height))))
        return (pixels.permute(2, 0, 1).float().div_(255) - self._mean) / self._std


class Loader:
    """Reads an epoch of JPEG files, augmented like this package's pipeline, with a worker process per thread."""

    def __init__(self, workload: Workload, folder: Path) -> None:
        torch.set_num_threads(1)
        small_patch_size, self._large_patch_size = workload.config.image_sizes
        self._batches = torch.utils.data.DataLoader(
            _AugmentedImages(sorted((folder / "images").rglob("*.jpg")), small_patch_size),
            batch_size=workload.batch_size,
            shuffle=True,
            num_workers=workload.threads,
            persistent_workers=True,
        )

    def step(self) -> None:
        """Reads an epoch."""
        for images in self._batches:
            torch.nn.functional.interpolate(images, size=self._large_patch_size, mode="bicubic")


class _AugmentedImages(torch.utils.data.Dataset):
    """Augmented small-patch images; the random resized crop is our own because timm's needs torchvision."""

    def __init__(self, paths: list[Path], size: tuple[int, int]) -> None:
        import_timm()
        from timm.data.auto_augment import rand_augment_transform
        from timm.data.random_erasing import RandomErasing

        self._paths, self._size = paths, size
        gray = tuple(round(255 * each) for each in (0.485, 0.456, 0.406))
        self._rand_augment = rand_augment_transform("rand-m9-mstd0.5-inc1", {"translate_const": 100, "img_mean": gray})
        self._erase = RandomErasing(0.25, mode="pixel", device="cpu")

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        from PIL import Image

        with Image.open(self._paths[index]) as file:
            image = file.convert("RGB")
        height, width = self._size
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=_crop_box(*image.size))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        with contextlib.suppress(ValueError):  # timm posterizes to 0 bits in 1 of 50 images, which Pillow 13 refuses
            image = self._rand_augment(image)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)
        mean, std = torch.tensor(_MEAN), torch.tensor(_STD)
        return self._erase((pixels - mean[:, None, None]) / std[:, None, None])


def _crop_box(width: int, height: int) -> tuple[float, float, float, float]:
    """Returns a random crop of 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3, as in the paper's recipe."""
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1.0)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if crop_width <= width and crop_height <= height:
            left, top = random.randint(0, width - crop_width), random.randint(0, height - crop_height)
            return (left, top, left + crop_width, top + crop_height)
    side = min(width, height)
    return ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
