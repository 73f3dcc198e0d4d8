"""What all runtimes have in common: the model's facts, checks of the images, batches."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.models.config import BRANCHES, CrossViTConfig
from keras_crossvit.preprocessing.predictions import PROBABILITIES_OF, require_finite
from keras_crossvit.runtimes.metadata import Metadata


def limit_tensorflow_threads(threads: int) -> None:
    """Asks TensorFlow for a number of threads; once it has computed something it keeps those that it has."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        return


INPUT_NAMES = tuple(f"{branch}_image" for branch in BRANCHES)
OUTPUT_NAME = "logits"
SIGNATURE = "serving_default"  # of the formats that name theirs
EMPTY_BATCH = "The batch is empty; give one picture or more."
_AT_ONCE = 64  # pictures; memory for activations grows with them, speed hardly


class Runtime(abc.ABC):
    """A model that has been loaded and answers with logits. Threads may share it: each call gets its own answer.

    Args:
        metadata: What the file says of its model.
        batch_size: Number of pictures that the file takes at once. Defaults to None: any number.
    """

    name: str  # what people call the runtime

    def __init__(self, metadata: Metadata, *, batch_size: int | None = None) -> None:
        self.metadata = metadata
        self.batch_size = batch_size

    @property
    def config(self) -> CrossViTConfig:
        """Architecture of the model, by which `keras_crossvit.preprocess(pictures, runtime)` works."""
        return self.metadata.config

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of the logits, or None."""
        return self.metadata.class_names

    def logits(self, small_patch_image: Any, large_patch_image: Any) -> np.ndarray:
        """Logits of a batch of any size, in rounds of the file's batch size, or of 64 where it takes any number.

        Args:
            small_patch_image: Normalised images of shape (B, height, width, channels) at `config.image_sizes[0]`.
            large_patch_image: The same images at `config.image_sizes[1]`.

        Returns:
            Array of shape (B, num_classes), float32.

        Raises:
            ValueError: the images have another shape, dtype or number, or values that are not finite; or the logits are
                not finite.
        """
        return require_finite("logits", self.unchecked_logits(self.checked([small_patch_image, large_patch_image])))

    def unchecked_logits(self, images: list[np.ndarray]) -> np.ndarray:
        """Logits, also those that are not finite, of images that `checked` returned."""
        at_once = self.batch_size or _AT_ONCE
        rounds = range(0, len(images[0]), at_once)
        return np.concatenate([self._run_padded([each[start:][:at_once] for each in images]) for start in rounds])

    def probabilities(self, small_patch_image: Any, large_patch_image: Any) -> np.ndarray:
        """Softmax of the logits, or their sigmoid where there is one class or that is the `classifier_activation`.

        Args and errors are those of `logits`.

        Raises:
            ValueError: the model has another activation.
        """
        return self.probabilities_of(self.logits(small_patch_image, large_patch_image))

    def probabilities_of(self, logits: np.ndarray) -> np.ndarray:
        """What `probabilities` makes of logits, shape (B, num_classes)."""
        probabilities_of = PROBABILITIES_OF[self.metadata.probability_function]
        return probabilities_of(require_finite("logits", logits)).astype("float32")

    def checked(self, images: Sequence[Any]) -> list[np.ndarray]:
        """The two inputs as float32 arrays, or the ValueError of `logits`."""
        arrays = [np.asarray(each) for each in images]
        for name, array, size in zip(INPUT_NAMES, arrays, self.config.image_sizes, strict=True):
            wanted = (*size, self.config.in_channels)
            if array.shape[1:] != wanted or array.ndim != 4:
                raise InvalidValueError(
                    f"{name} of shape {array.shape} does not fit the model, which takes (pictures, "
                    f"{', '.join(map(str, wanted))}); make it by keras_crossvit.preprocess."
                )
            if not np.issubdtype(array.dtype, np.floating):
                raise InvalidValueError(
                    f"{name} is of dtype {array.dtype}; give normalised float32 values, such as "
                    "keras_crossvit.preprocess makes them."
                )
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
            arrays = [np.ascontiguousarray(array, "float32") for array in arrays]
        for name, array in zip(INPUT_NAMES, arrays, strict=True):
            if not np.isfinite(array).all():
                raise InvalidValueError(f"{name} has values that are not finite; replace NaN and infinity before.")
        counts = [len(array) for array in arrays]
        if len(set(counts)) > 1:
            raise InvalidValueError(
                f"{counts[0]} small-patch and {counts[1]} large-patch images do not pair; give as many."
            )
        if counts[0] == 0:
            raise InvalidValueError(EMPTY_BATCH)
        return arrays

    @abc.abstractmethod
    def _run(self, images: list[np.ndarray]) -> np.ndarray:
        """Logits of checked images: of `batch_size` of them, or where that is None of any number."""

    def _run_padded(self, images: list[np.ndarray]) -> np.ndarray:
        given = len(images[0])
        missing = (self.batch_size or given) - given
        if missing:
            images = [np.concatenate([each, np.zeros_like(each[:1]).repeat(missing, axis=0)]) for each in images]
        return self._run(images)[:given]
