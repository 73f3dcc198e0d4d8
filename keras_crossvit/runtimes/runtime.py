"""The base class of all runtimes: checks of the inputs, batches, probabilities."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.models.config import BRANCHES, CrossViTConfig
from keras_crossvit.preprocessing.predictions import PROBABILITIES_OF, require_finite
from keras_crossvit.runtimes.metadata import Metadata

INPUT_NAMES = tuple(f"{branch}_image" for branch in BRANCHES)
OUTPUT_NAME = "logits"
SIGNATURE = "serving_default"  # in formats with named signatures
EMPTY_BATCH = "The batch is empty; pass at least one image."
_MAX_BATCH_SIZE = 64  # a larger batch needs more memory and is hardly faster


class Runtime(abc.ABC):
    """A loaded model that computes logits and probabilities: `runtime.logits(*kc.preprocess(images, runtime))`.

    It is the same interface to Keras models and to every exported format. Threads may share a runtime: each call gets
    its own results. Some runtimes compute one call at a time; the others wait.

    Subclasses load the file in `__init__` and compute one batch in `_run`.

    Args:
        metadata: The description of the model in its file.
        batch_size: Batch size of the file. Defaults to None: any.
    """

    name: str  # of the library, for messages

    def __init__(self, metadata: Metadata, *, batch_size: int | None = None) -> None:
        self.metadata = metadata
        self.batch_size = batch_size

    @property
    def config(self) -> CrossViTConfig:
        """The model's architecture, which `kc.preprocess` reads."""
        return self.metadata.config

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of the logits, or None."""
        return self.metadata.class_names

    def logits(self, small_patch_image: ArrayLike, large_patch_image: ArrayLike) -> np.ndarray:
        """Computes the logits of any number of images, in batches of the file's batch size or of at most 64.

        Args:
            small_patch_image: Normalised images, shape (B, height, width, channels) at `config.image_sizes[0]`.
            large_patch_image: The same images at `config.image_sizes[1]`.

        Returns:
            Array of shape (B, num_classes), float32.

        Raises:
            ValueError: the inputs have a wrong shape, dtype or number, or inputs or logits are not finite.
        """
        return require_finite("logits", self.unchecked_logits(self.checked([small_patch_image, large_patch_image])))

    def probabilities(self, small_patch_image: ArrayLike, large_patch_image: ArrayLike) -> np.ndarray:
        """Computes the softmax of the logits, or their sigmoid for one class or a sigmoid `classifier_activation`.

        Args, shapes and errors are those of `logits`.

        Raises:
            ValueError: the model has another activation.
        """
        return self.probabilities_of(self.logits(small_patch_image, large_patch_image))

    def probabilities_of(self, logits: np.ndarray) -> np.ndarray:
        """Turns logits into probabilities, both of shape (B, num_classes)."""
        function = PROBABILITIES_OF[self.metadata.probability_function]
        return function(require_finite("logits", logits)).astype("float32")

    def checked(self, images: Sequence[ArrayLike]) -> list[np.ndarray]:
        """Returns the two inputs as float32 arrays, or raises the ValueError of `logits`."""
        arrays = [np.asarray(each) for each in images]
        for name, array, size in zip(INPUT_NAMES, arrays, self.config.image_sizes, strict=True):
            shape = (*size, self.config.in_channels)
            if array.ndim != 4 or array.shape[1:] != shape:
                raise InvalidValueError(
                    f"{name} has shape {array.shape}, but the model takes (batch, {', '.join(map(str, shape))}); make "
                    "it with keras_crossvit.preprocess."
                )
            if not np.issubdtype(array.dtype, np.floating):
                raise InvalidValueError(
                    f"{name} has dtype {array.dtype}, but the model takes normalised float32 values; make it with "
                    "keras_crossvit.preprocess."
                )
        with np.errstate(over="ignore"):  # values beyond float32 become infinite, which the next check finds
            arrays = [np.ascontiguousarray(array, "float32") for array in arrays]
        for name, array in zip(INPUT_NAMES, arrays, strict=True):
            if not np.isfinite(array).all():
                raise InvalidValueError(f"{name} has values that are not finite; replace NaN and infinity.")
        small, large = map(len, arrays)
        if small != large:
            raise InvalidValueError(f"{small} small-patch and {large} large-patch images do not pair; pass pairs.")
        if small == 0:
            raise InvalidValueError(EMPTY_BATCH)
        return arrays

    def unchecked_logits(self, images: list[np.ndarray]) -> np.ndarray:
        """Computes the logits of images that `checked` returned, without checking that they are finite."""
        step = self.batch_size or _MAX_BATCH_SIZE
        starts = range(0, len(images[0]), step)
        return np.concatenate([self._run_padded([each[start : start + step] for each in images]) for start in starts])

    def _run_padded(self, images: list[np.ndarray]) -> np.ndarray:
        count = len(images[0])
        missing = (self.batch_size or count) - count
        if missing:
            images = [np.concatenate([each, np.zeros((missing, *each.shape[1:]), each.dtype)]) for each in images]
        return self._run(images)[:count]

    @abc.abstractmethod
    def _run(self, images: list[np.ndarray]) -> np.ndarray:
        """Computes the logits of one checked batch, of `batch_size` images if that is not None."""
