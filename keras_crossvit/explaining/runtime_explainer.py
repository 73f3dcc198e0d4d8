"""Explains images with the grids that an exported file computes beside its logits, without Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_crossvit.explaining.covering import Images, faithfulness
from keras_crossvit.explaining.explanation import Box, Explanation, at_panel_size
from keras_crossvit.preprocessing.images import read_image, to_rgb
from keras_crossvit.preprocessing.predictions import require_finite, resolve_class_names
from keras_crossvit.preprocessing.transforms import (
    ImageLike,
    as_array,
    crop_geometry,
    preprocess,
    resolve_crop_fraction,
)
from keras_crossvit.runtimes import Runtime
from keras_crossvit.runtimes.runtime import EXPLANATION_NAMES, OUTPUT_NAME

Grids = tuple[np.ndarray, np.ndarray]  # for the small-patch and the large-patch branch, (B, rows, columns)


class Sample(NamedTuple):
    """An image that was read: as it is drawn, what of it the model sees, and the model's inputs, a batch of one."""

    image: np.ndarray
    box: Box
    inputs: Images


class RuntimeExplainer:
    """Explains batches of images by the outputs of a file that was exported with explanations.

    Args:
        runtime: The loaded file.
        crop_fraction: As in `preprocess`. Defaults to None.
    """

    method = "ablation"

    def __init__(self, runtime: Runtime, *, crop_fraction: float | None = None) -> None:
        self.runtime, self.config = runtime, runtime.config
        self._crop_fraction = resolve_crop_fraction(crop_fraction, *self.config.image_sizes[0])
        self._names = resolve_class_names(self.config.num_classes, runtime.class_names)
        self._chosen: tuple[int, ...] = ()  # the class to explain, and the one that it is compared with

    def compute(self, inputs: Images) -> tuple[np.ndarray, Grids]:
        """Returns the logits and the grids of a batch of the model's inputs."""
        found = self.runtime.explanations(*inputs)
        return found[OUTPUT_NAME], (found[EXPLANATION_NAMES[0]], found[EXPLANATION_NAMES[1]])

    def explain(self, images: Sequence[ImageLike]) -> list[Explanation]:
        """Returns an explanation of each image."""
        return self.explain_samples([self._sample(each) for each in images])[0]

    def read(self, path: str) -> Sample:
        """Reads an image file at the size at which it is drawn."""
        image, box, inputs = self._sample(read_image(path))
        return Sample(*at_panel_size(image, box), inputs)

    def explain_samples(self, samples: Sequence[Sample]) -> tuple[list[Explanation], np.ndarray]:
        """Returns an explanation of each sample, and their logits."""
        inputs = zip(*(sample.inputs for sample in samples), strict=True)
        logits, grids = self.compute(tuple(map(np.concatenate, inputs)))
        probabilities = self.runtime.probabilities_of(require_finite(OUTPUT_NAME, logits))
        return [
            self._explanation(
                sample, probabilities[i], self._chosen or (int(logits[i].argmax()),), (grids[0][i], grids[1][i])
            )
            for i, sample in enumerate(samples)
        ], logits

    def joined(self, small_patch: np.ndarray, large_patch: np.ndarray) -> np.ndarray:
        """Returns both grids together, on the grid of the small patches."""
        return small_patch + _resized(large_patch, *small_patch.shape)

    def _sample(self, image: ImageLike) -> Sample:
        pixels = as_array(image)
        inputs = preprocess(pixels, self.runtime, crop_fraction=self._crop_fraction)
        return Sample(_as_rgb(pixels), self._box(*pixels.shape[:2]), inputs)

    def _explanation(
        self, sample: Sample, probabilities: np.ndarray, classes: tuple[int, ...], grids: Grids
    ) -> Explanation:
        number, *compared = classes

        def of_faithfulness(explanation: Explanation) -> dict[str, float]:
            def probability(*batch: np.ndarray) -> np.ndarray:
                return self.runtime.probabilities(*batch)[:, number]

            heat = self.joined(explanation.small_patch, explanation.large_patch)
            return faithfulness(probability, tuple(each[0] for each in sample.inputs), heat)

        return Explanation(
            image=sample.image,
            class_name=self._names[number],
            against=self._names[compared[0]] if compared else None,
            probability=float(probabilities[number]),
            method=self.method,
            small_patch=grids[0],
            large_patch=grids[1],
            box=sample.box,
            _faithfulness=of_faithfulness,
        )

    def _box(self, old_height: int, old_width: int) -> Box:
        height, width = self.config.image_sizes[0]
        new_height, new_width, top, left = crop_geometry(old_height, old_width, height, width, self._crop_fraction)
        down, across = old_height / new_height, old_width / new_width
        return top * down, left * across, height * down, width * across


def _as_rgb(pixels: np.ndarray) -> np.ndarray:
    image = np.clip(np.round(pixels), 0, 255).astype("uint8")
    return to_rgb(Image.fromarray(image[..., 0] if image.shape[2] == 1 else image))


def _resized(grid: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Returns a grid at another size, with the same sum."""
    resized = Image.fromarray(grid.astype("float32")).resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(resized) * (grid.size / (rows * columns))
