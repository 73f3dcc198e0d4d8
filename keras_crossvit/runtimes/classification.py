"""`classify`: from a model and images to the names of classes, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_crossvit._internal.checks import require_integer
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit.models.config import config_of
from keras_crossvit.models.variants import is_variant
from keras_crossvit.preprocessing.files import BATCH_SIZE
from keras_crossvit.preprocessing.predictions import TOP, decode_predictions, imagenet_classes, resolve_class_names
from keras_crossvit.preprocessing.transforms import ImageLike, as_sequence, preprocess
from keras_crossvit.runtimes.keras_model import KerasRuntime
from keras_crossvit.runtimes.loading import load_runtime
from keras_crossvit.runtimes.runtime import Runtime

if TYPE_CHECKING:
    from keras_crossvit.models.crossvit import CrossViT

Predictions = list[tuple[str, str, float]]  # (identifier, name, probability), most probable first


@known_keywords_only
def classify(
    model: CrossViT | Runtime | str | PathLike[str],
    images: ImageLike | Sequence[ImageLike],
    top: int = TOP,
    *,
    crop_fraction: float | None = None,
    allow_any_operation: bool = False,
) -> list[Predictions]:
    """Names the most probable classes of images.

    ```python
    for identifier, name, probability in kc.classify("runs/pets", "photo.jpg")[0]:
        print(f"{name}: {probability:.1%}")
    ```

    Args:
        model: A `CrossViT`; the path of anything that `load_runtime` takes, such as a `.keras` or `.tflite` file or a
            run folder; the name of a published model, for its ImageNet weights; or a `Runtime`. A model that is
            needed for several calls is loaded once by `load_runtime`.
        images: One image or several, as in `preprocess`: paths, PIL images or arrays.
        top: Number of classes per image. Defaults to 5.
        crop_fraction: As in `preprocess`. Defaults to None.
        allow_any_operation: As in `load_runtime`. Defaults to False.

    Returns:
        For each image, also if there is one, a list of (identifier, name, probability) as `decode_predictions` returns
        it. Probabilities are those of `Runtime.probabilities`. Classes without names are "class 0", "class 1" and so
        on.

    Raises:
        OSError: a file does not exist or cannot be read, or the published weights cannot be downloaded.
        TypeError: the model is none of these, such as a wrapper.
        ValueError: the model has no classes, an image cannot be taken, or `top` is not a positive integer.
    """
    top = require_integer("top", top, minimum=1)
    chosen = as_sequence(images)
    runtime = open_runtime(model, len(chosen), allow_any_operation=allow_any_operation)
    size = batch_size_of(runtime)
    batches = (chosen[start : start + size] for start in range(0, len(chosen), size))
    return [
        predictions
        for batch in batches
        for predictions in top_classes(
            runtime, runtime.logits(*preprocess(batch, runtime, crop_fraction=crop_fraction)), top
        )
    ]


def open_runtime(
    model: CrossViT | Runtime | str | PathLike[str],
    count: int,
    *,
    threads: int | None = None,
    allow_any_operation: bool = False,
) -> Runtime:
    """Returns the runtime of a model as `classify` takes it, for so many images."""
    if isinstance(model, Runtime):
        return model
    if isinstance(model, (str, PathLike)) and (not is_variant(str(model)) or Path(model).exists()):
        runtime = load_runtime(model, threads=threads, quiet=True, allow_any_operation=allow_any_operation)
    else:
        if isinstance(model, (str, PathLike)):
            from keras_crossvit.models.builders import IMAGENET, create_model

            model = create_model(str(model), weights=IMAGENET)
        config_of(model)  # refuses all others
        runtime = KerasRuntime(model, threads=threads)
    if isinstance(runtime, KerasRuntime):
        runtime.run_eagerly = count <= 2 * BATCH_SIZE
    return runtime


def batch_size_of(runtime: Runtime) -> int:
    """Returns how many images to preprocess and classify at once."""
    return runtime.batch_size or BATCH_SIZE


def top_classes(runtime: Runtime, logits: np.ndarray, top: int) -> list[Predictions]:
    """Returns the most probable classes of images from their logits, shape (B, num_classes)."""
    names, num_classes = runtime.class_names, runtime.config.num_classes
    if names is None and num_classes != len(imagenet_classes()):  # None stands for ImageNet and its identifiers
        names = tuple(resolve_class_names(num_classes))
    return decode_predictions(runtime.probabilities_of(logits), top=top, class_names=names)
