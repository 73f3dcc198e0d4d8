"""Imports timm without torchvision, which CrossViT does not use and which is not built for every PyTorch."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from unittest import mock

_SUBMODULES = [
    *("datasets", "models", "models.feature_extraction", "ops", "ops.misc"),
    *("transforms", "transforms.functional", "utils"),
]


def import_timm() -> ModuleType:
    """Returns the package `timm`. Where torchvision is missing, a stub stands in for it during the import."""
    if "timm" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        stubs = {name: mock.MagicMock() for name in ("torchvision", *(f"torchvision.{end}" for end in _SUBMODULES))}
        sys.modules.update(stubs)
        try:
            importlib.import_module("timm.optim")
        finally:
            for name in stubs:
                del sys.modules[name]
    return importlib.import_module("timm")
