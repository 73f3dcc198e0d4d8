"""The base class of all runtimes: checks of the inputs, batches, probabilities."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike

import numpy as np
from numpy.typing import ArrayLike

from keras_crossvit._internal.errors import CrossViTError, InvalidValueError, first_line
from keras_crossvit.models.config import BRANCHES, CrossViTConfig
from keras_crossvit.preprocessing.calibration import Calibration
from keras_crossvit.preprocessing.predictions import PROBABILITIES_OF, require_finite
from keras_crossvit.preprocessing.transforms import IMAGE, NORMALIZED_IMAGE, TENSORS
from keras_crossvit.runtimes.metadata import Metadata

INPUT_NAMES = tuple(f"{branch}_image" for branch in BRANCHES)
NAMES_OF_KIND = {TENSORS: INPUT_NAMES, IMAGE: ("image",), NORMALIZED_IMAGE: INPUT_NAMES[:1]}
OUTPUT_NAME = "logits"
EXPLANATION = "explanation"  # what an export can compute beside the logits, as the tensors of the next line
EXPLANATION_NAMES = tuple(f"{branch}_explanation" for branch in BRANCHES)
OUTPUTS = (OUTPUT_NAME, EXPLANATION)
SIGNATURE = "serving_default"  # in formats with named signatures
EMPTY_BATCH = "The batch is empty; pass at least one image."
_MAX_BATCH_SIZE = 64  # a larger batch needs more memory and is hardly faster


@contextlib.contextmanager
def refused_if_damaged(path: str | PathLike[str], kind: str) -> Iterator[None]:
    """Turns every error of a runtime's library, whose type depends on where a file is damaged, into one of ours."""
    try:
        yield
    except CrossViTError:
        raise
    except Exception as error:
        raise InvalidValueError(
            f"'{path}' is not a complete {kind} ({first_line(error)[:200]}); export the model again."
        ) from error


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

    @property
    def calibration(self) -> Calibration:
        """How to read the logits."""
        return self.metadata.calibration

    @property
    def input_kind(self) -> str:
        """What the file takes: "tensors", "image" or "normalized_image", which `kc.preprocess` reads."""
        return self.metadata.inputs

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the file's inputs."""
        return NAMES_OF_KIND[self.input_kind]

    @property
    def input_dtype(self) -> str:
        """The dtype of the inputs: "uint8" for an image, else "float32"."""
        return "uint8" if self.input_kind == IMAGE else "float32"

    def logits(self, *images: ArrayLike) -> np.ndarray:
        """Computes the logits of any number of images, in batches of the file's batch size or of at most 64.

        Args:
            images: What `kc.preprocess` returns for this runtime. Normalised images, shape (B, height, width, channels)
                at `config.image_sizes[0]`, and the same at `config.image_sizes[1]`; for a file that takes an image,
                only the first, uint8 and not normalised.

        Returns:
            Array of shape (B, num_classes), float32.

        Raises:
            ValueError: the inputs have a wrong shape, dtype or number, or inputs or logits are not finite.
        """
        return require_finite("logits", self.unchecked_logits(self.checked(images)))

    def explanations(self, *images: ArrayLike) -> dict[str, np.ndarray]:
        """Computes the logits, and what each patch contributes to that of the predicted class.

        Args are those of `logits`.

        Returns:
            By name float32 arrays: `logits`, shape (B, num_classes), and `small_patch_explanation` and
            `large_patch_explanation`, shapes (B, rows, columns): what the largest logit loses without the patch in the
            last fusion.

        Raises:
            ValueError: the file has only logits, or as in `logits`.
        """
        if EXPLANATION not in self.metadata.outputs:
            raise InvalidValueError(
                f"This model for {self.name} has no explanation among its outputs "
                f"({', '.join(self.metadata.outputs)}); export it with outputs=('{OUTPUT_NAME}', "
                f"'{EXPLANATION}') (--outputs {OUTPUT_NAME} {EXPLANATION})."
            )
        outputs = self.outputs(*images)
        return {name: outputs[name] for name in (OUTPUT_NAME, *EXPLANATION_NAMES)}

    def outputs(self, *images: ArrayLike) -> dict[str, np.ndarray]:
        """Computes everything that the file computes, by name. Args and errors are those of `logits`."""
        outputs = self._unchecked_outputs(self.checked(images))
        return {name: require_finite(name, output) for name, output in outputs.items()}

    def probabilities(self, *images: ArrayLike) -> np.ndarray:
        """Computes the softmax of the logits, or their sigmoid for one class or a sigmoid `classifier_activation`.

        If the model has a calibration, the logits are divided by its temperature before.

        Args, shapes and errors are those of `logits`.

        Raises:
            ValueError: the model has another activation.
        """
        return self.probabilities_of(self.logits(*images))

    def probabilities_of(self, logits: np.ndarray) -> np.ndarray:
        """Turns logits into probabilities, both of shape (B, num_classes), at the model's temperature."""
        function = PROBABILITIES_OF[self.metadata.probability_function]
        scaled = require_finite("logits", logits) / self.metadata.calibration.temperature
        return function(scaled).astype("float32")

    def checked(self, images: Sequence[ArrayLike]) -> list[np.ndarray]:
        """Returns the inputs as arrays of `input_dtype`, or raises the ValueError of `logits`."""
        if len(images) != len(self.input_names):
            raise InvalidValueError(
                f"Got {len(images)} inputs, but this model for {self.name} takes {len(self.input_names)} "
                f"({', '.join(self.input_names)}); make them with keras_crossvit.preprocess(images, runtime)."
            )
        takes_image = self.input_kind == IMAGE
        arrays = [np.asarray(each) for each in images]
        for name, array, size in zip(self.input_names, arrays, self.config.image_sizes, strict=False):
            shape = (*size, self.config.in_channels)
            if array.ndim != 4 or array.shape[1:] != shape:
                raise InvalidValueError(
                    f"{name} has shape {array.shape}, but the model takes (batch, {', '.join(map(str, shape))}); make "
                    "it with keras_crossvit.preprocess(images, runtime)."
                )
            if array.dtype != np.uint8 if takes_image else not np.issubdtype(array.dtype, np.floating):
                values = "uint8 values from 0 to 255" if takes_image else "normalised float32 values"
                raise InvalidValueError(
                    f"{name} has dtype {array.dtype}, but the model takes {values}; make it with "
                    "keras_crossvit.preprocess(images, runtime)."
                )
        with np.errstate(over="ignore"):  # values beyond float32 become infinite, which the next check finds
            arrays = [np.ascontiguousarray(array, self.input_dtype) for array in arrays]
        for name, array in zip(self.input_names, arrays, strict=True):
            if not np.isfinite(array).all():
                raise InvalidValueError(f"{name} has values that are not finite; replace NaN and infinity.")
        small, large = len(arrays[0]), len(arrays[-1])
        if small != large:
            raise InvalidValueError(f"{small} small-patch and {large} large-patch images do not pair; pass pairs.")
        if small == 0:
            raise InvalidValueError(EMPTY_BATCH)
        return arrays

    def unchecked_logits(self, images: list[np.ndarray]) -> np.ndarray:
        """Computes the logits of images that `checked` returned, without checking that they are finite."""
        return self._unchecked_outputs(images)[OUTPUT_NAME]

    def _unchecked_outputs(self, images: list[np.ndarray]) -> dict[str, np.ndarray]:
        step = self.batch_size or _MAX_BATCH_SIZE
        starts = range(0, len(images[0]), step)
        batches = [self._run_padded([each[start : start + step] for each in images]) for start in starts]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    def _run_padded(self, images: list[np.ndarray]) -> dict[str, np.ndarray]:
        count = len(images[0])
        missing = (self.batch_size or count) - count
        if missing:
            images = [np.concatenate([each, np.zeros((missing, *each.shape[1:]), each.dtype)]) for each in images]
        outputs = {name: output[:count] for name, output in self._run(images).items()}
        self._require_outputs({name: output.shape for name, output in outputs.items()}, count)
        return outputs

    def _require_outputs(self, shapes: Mapping[str, tuple[int, ...]], count: int) -> None:
        """Raises ValueError unless a file has computed what it says of itself."""
        expected: dict[str, tuple[int, ...]] = {OUTPUT_NAME: (count, self.config.num_classes)}
        if EXPLANATION in self.metadata.outputs:
            grids = zip(EXPLANATION_NAMES, self.config.patch_grids, strict=True)
            expected |= {name: (count, *grid) for name, grid in grids}
        for name, shape in expected.items():
            if shapes.get(name) != shape:
                raise InvalidValueError(
                    f"This model for {self.name} has computed {name} of shape {shapes.get(name)}, but describes "
                    f"{shape}; export the model again."
                )

    @abc.abstractmethod
    def _run(self, images: list[np.ndarray]) -> Mapping[str, np.ndarray]:
        """Computes the outputs of one checked batch, of `batch_size` images if that is not None, by name."""
