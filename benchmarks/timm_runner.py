"""The peer: timm's CrossViT under PyTorch, as it is or compiled.

Imports neither Keras nor this package, so that the memory of its process is PyTorch's alone.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np


def import_timm() -> types.ModuleType:
    """The package `timm`; where torchvision is missing, with a stub in its place, since CrossViT uses nothing of it."""
    if "timm" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        finder = _StubFinder()
        sys.meta_path.insert(0, finder)
        try:
            importlib.import_module("timm.optim")
        finally:
            sys.meta_path.remove(finder)
            for name in [name for name, module in sys.modules.items() if isinstance(module, _StubModule)]:
                del sys.modules[name]
    return importlib.import_module("timm")


class _AnythingGoes(type):
    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StubModule(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnythingGoes(name, (), {})


class _StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return _StubModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run: every name is made when it is asked for."""


def prepare(task: dict[str, Any]) -> Any:
    """The contender for a task of the worker's."""
    import torch

    work, folder = task["work"], Path(task["folder"])
    torch.set_num_threads(work["threads"])
    weights = folder / "weights.safetensors"
    if work["mode"] in ("load", "build"):
        return _Build(task, weights if work["mode"] == "load" else None)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(task, weights).to(device, memory_format=torch.channels_last if device == "cuda" else None)
    data = np.load(folder / "data.npz")
    images = torch.from_numpy(channels_first(data["small_patch_image"])).to(device)
    if device == "cuda":
        images = images.contiguous(memory_format=torch.channels_last)
    if work["mode"] == "training":
        return _Training(model, images, torch.from_numpy(data["labels"]).to(device), task)
    return _Inference(model, images, task)


def channels_first(images: np.ndarray) -> np.ndarray:
    """Images of shape (B, H, W, 3) as PyTorch takes them, (B, 3, H, W)."""
    return images.transpose(0, 3, 1, 2).copy()


def load_model(task: dict[str, Any], weights: Path | None) -> Any:
    """The model of a task, for inference; with a file, with its weights."""
    size = task["work"]["image_size"]
    model = import_timm().create_model(task["timm_name"], **({} if size is None else {"img_size": size}))
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights), strict=True)
    return model.eval()


def _autocast(images: Any, task: dict[str, Any]) -> Any:
    import torch

    return torch.autocast(images.device.type, torch.bfloat16, enabled=task["work"]["precision"] == "bfloat16")


class _Measured:
    def peak_bytes(self) -> int:
        """Of the accelerator; 0 where there is none."""
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


class _Inference(_Measured):
    """One batch through the model, logits copied to the host."""

    def __init__(self, model: Any, images: Any, task: dict[str, Any]) -> None:
        import torch

        self._model = torch.compile(model) if task["options"]["runtime"] == "compiled" else model
        self._images, self._task = images, task

    def step(self) -> np.ndarray:
        import torch

        with torch.inference_mode(), _autocast(self._images, self._task):
            return self._model(self._images).float().cpu().numpy()


class _Training(_Measured):
    """One step of AdamW on the cross-entropy."""

    def __init__(self, model: Any, images: Any, labels: Any, task: dict[str, Any]) -> None:
        import torch

        self._model = model.train()
        self._forward = torch.compile(model) if task["options"]["runtime"] == "compiled" else model
        self._images, self._labels, self._task = images, labels, task
        self._optimizer = torch.optim.AdamW(model.parameters(), 1e-4, eps=1e-7, weight_decay=0.05)

    def step(self) -> np.ndarray:
        import torch

        self._optimizer.zero_grad(set_to_none=True)
        with _autocast(self._images, self._task):
            loss = torch.nn.functional.cross_entropy(self._forward(self._images).float(), self._labels)
        loss.backward()
        self._optimizer.step()
        return np.asarray([loss.item()], "float32")


class _Build:
    """Builds the model; with a file, loads its weights too."""

    def __init__(self, task: dict[str, Any], weights: Path | None) -> None:
        self._task, self._weights = task, weights
        import_timm()

    def step(self) -> None:
        load_model(self._task, self._weights)
