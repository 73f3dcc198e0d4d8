"""The runtime of a model that is to be served."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.runtimes import Runtime, load_runtime


def load_servable(path: str | PathLike, **loading: Any) -> Runtime:
    """Returns the runtime of a model that has classes and probabilities, and has computed once.

    Args:
        path: As in `load_runtime`, whose errors this raises too.
        **loading: Other keywords of `load_runtime`.

    Raises:
        InvalidValueError: The model has no classes, or only Keras can compute its probabilities.
    """
    runtime = load_runtime(path, **loading)
    config = runtime.config
    if config.num_classes == 0:
        raise InvalidValueError(f"'{path}' has no classes; export a model with num_classes above 0.")
    runtime.probabilities_of(np.zeros((1, config.num_classes), "float32"))
    sizes = zip(runtime.input_names, config.image_sizes, strict=False)  # a file of inputs="image" has one
    images = [np.zeros((1, *size, config.in_channels), runtime.input_dtype) for _, size in sizes]
    runtime.unchecked_logits(images)  # the first computation is the slowest
    return runtime
