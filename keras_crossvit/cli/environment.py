"""Settings of the command's own process, made before Keras and TensorFlow are imported."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Iterable

from keras_crossvit._internal.native_output import suppress_native_output

# Set unless the caller has set them. The first keeps TensorFlow from printing a line per image, the second turns
# on oneDNN, which TensorFlow does by itself only on processors with AVX512-VNNI or newer (docs/performance.md).
TENSORFLOW_SETTINGS = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
_UNNEEDED = {"IPython", "matplotlib", "pandas", "sklearn"}


def configure_environment() -> None:
    """Sets TensorFlow's settings; a process that only imports the package is left as it is."""
    for name, value in TENSORFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)


def import_quietly(modules: Iterable[str]) -> None:
    """Imports Keras or TensorFlow without their start-up messages, which ignore every log level.

    It takes half the time. They do not find libraries that they import where they are installed, for what no command
    needs; and their objects, which all stay, are not searched for garbage, neither now nor later.
    """
    new = [module for module in modules if module not in sys.modules]
    if not new:
        return
    unneeded = _UNNEEDED - sys.modules.keys()
    sys.modules.update(dict.fromkeys(unneeded))  # type: ignore[arg-type]  # None makes an import fail
    collects = gc.isenabled()
    gc.disable()
    try:
        with suppress_native_output():
            for module in new:
                importlib.import_module(module)
    finally:
        gc.freeze()
        if collects:
            gc.enable()
        for name in unneeded:
            del sys.modules[name]
