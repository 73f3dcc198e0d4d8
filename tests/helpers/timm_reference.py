"""timm, the reference implementation, imported without torchvision."""

import importlib.util

from benchmarks.torchvision_stub import import_timm

__all__ = ["INSTALLATION", "import_timm", "is_installed"]

# Without timm's own requirements: they include a torchvision that may not exist for the installed PyTorch.
INSTALLATION = 'pip install huggingface_hub pyyaml && pip install --no-deps "timm==1.0.31"'


def is_installed():
    return importlib.util.find_spec("timm") is not None
