"""Settings of the command's own process, made before Keras and TensorFlow are imported."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable

from keras_crossvit._internal.native_output import suppress_native_output

# Set unless the caller has set them. The first keeps TensorFlow from printing a line per image, the second turns
# on oneDNN, which TensorFlow does by itself only on processors with AVX512-VNNI or newer (docs/performance.md).
TENSORFLOW_SETTINGS = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}


def configure_environment() -> None:
    """Sets TensorFlow's settings; a process that only imports the package is left as it is."""
    for name, value in TENSORFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)


def import_quietly(modules: Iterable[str]) -> None:
    """Imports libraries whose start-up messages ignore every log level."""
    with suppress_native_output():
        for module in modules:
            importlib.import_module(module)
