"""timm itself, to compare with; it is imported without torchvision, of which CrossViT uses nothing."""

import importlib.util

from benchmarks.timm_runner import import_timm

__all__ = ["INSTALLATION", "import_timm", "is_installed"]

# Without timm's own requirements, which would bring a torchvision that is not built for the PyTorch that is there.
INSTALLATION = 'pip install huggingface_hub pyyaml && pip install --no-deps "timm==1.0.31"'


def is_installed():
    return importlib.util.find_spec("timm") is not None
