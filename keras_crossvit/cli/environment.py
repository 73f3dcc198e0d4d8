"""What TensorFlow must be told before it is loaded, in processes that the command owns."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from keras_crossvit._internal.native_output import suppress_native_output

_COMMAND = "keras-crossvit"

# Of the environment, where the caller has not set them. Without the first, TensorFlow speaks of every picture that it
# decodes. The second turns on the kernels of oneDNN, which it does by itself only on processors with AVX512-VNNI or
# newer; with AVX2 alone they save a tenth to a quarter of the time (docs/performance.md).
TENSORFLOW_SETTINGS = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}


def command_start() -> contextlib.AbstractContextManager[None]:
    """Where this process is the command: TensorFlow's settings, and silence while it is loaded.

    TensorFlow reads them when it is loaded, which is when this package is imported and before the command begins; and
    some of its notes at that time know no level. A process that imports the package is left as it is.
    """
    is_module = sys.argv[:1] == ["-m"] and "keras_crossvit" in sys.orig_argv  # while Python looks for it
    if not is_module and Path(*sys.argv[:1]).stem != _COMMAND:
        return contextlib.nullcontext()
    for name, value in TENSORFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)
    return suppress_native_output()
