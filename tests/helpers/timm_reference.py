"""timm itself, to compare with; it is imported without torchvision, of which CrossViT uses nothing."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types

# Without timm's own requirements, which would bring a torchvision that is not built for the PyTorch that is there.
INSTALLATION = 'pip install huggingface_hub pyyaml && pip install --no-deps "timm==1.0.31"'


def is_installed():
    return importlib.util.find_spec("timm") is not None


def import_timm():
    """The package `timm`, imported with a stub in the place of torchvision, whose builds may not fit PyTorch's."""
    if "timm" not in sys.modules:
        finder = _StubFinder()
        sys.meta_path.insert(0, finder)
        try:
            importlib.import_module("timm.optim")
        finally:
            sys.meta_path.remove(finder)
            for name in [name for name, module in sys.modules.items() if isinstance(module, _StubModule)]:
                del sys.modules[name]
    return sys.modules["timm"]


class _AnythingGoes(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StubModule(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnythingGoes(name, (), {})


class _StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return _StubModule(spec.name)

    def exec_module(self, module):
        pass
