"""Libraries that only some of the package's tasks need."""

from __future__ import annotations

import importlib
from types import ModuleType

# Keras looks for the one that KERAS_BACKEND names, which need not be what this package brings along.
_BACKENDS = ("jax", "tensorflow", "torch")


def installation_of(library: str) -> str:
    """What to run where a library that the whole package needs is missing."""
    if library in _BACKENDS:
        others = " or ".join(each for each in _BACKENDS if each != library)
        return f"pip install {library}, or choose another backend of Keras by KERAS_BACKEND ({others})"
    return "pip install keras_crossvit"


def require_library(module: str, extra: str | None = None, *, otherwise: str | None = None) -> ModuleType:
    """Imports a library of an extra.

    Args:
        module: Module to import, such as "matplotlib.pyplot".
        extra: Extra of this package that brings it. Defaults to None: the package itself does.
        otherwise: What does without it, such as "use a .safetensors file". Defaults to None: nothing does.

    Returns:
        The module.

    Raises:
        ModuleNotFoundError: it is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        requirement = "keras_crossvit" if extra is None else f'"keras_crossvit[{extra}]"'
        remedy = f"pip install {requirement}{f', or {otherwise}' if otherwise else ''}"
        raise ModuleNotFoundError(f"{library} is not installed; run: {remedy}", name=library) from None
