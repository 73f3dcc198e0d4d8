"""The pictures of one split, wherever they lie, as one kind of record.

A record is a dictionary of tensors: "path" or "contents" (what is decoded), "label" (a class, or a vector of 0 and 1),
"height", "width" (of the upright picture), "road" (how it is decoded) and "sample" (picture * repeats + copy, from which
its random numbers follow).
"""

from __future__ import annotations

import dataclasses
import functools
import os

import numpy as np
import tensorflow as tf

from keras_crossvit.pipeline.order import epoch_order


@dataclasses.dataclass(frozen=True)
class FileSplit:
    """Pictures in files of their own.

    Args:
        paths: The files.
        labels: Shape (pictures,), int32.
        heights: Shape (pictures,), int32, in pixels.
        widths: The same.
        roads: Shape (pictures,), int32: values of `Road`.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    roads: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def records(self, *, repeats: int, seed: int, epoch: int, skip: int = 0) -> tf.data.Dataset:
        """The records of an epoch in its order, without the first `skip`."""
        samples = epoch_order(len(self), repeats, seed=seed, epoch=epoch)[skip:]
        return tf.data.Dataset.from_tensor_slices(samples).map(lambda sample: self._record(sample, sample // repeats))

    def records_in_order(self) -> tf.data.Dataset:
        """The records as they lie."""
        return tf.data.Dataset.range(len(self)).map(lambda picture: self._record(picture, picture))

    def _record(self, sample: tf.Tensor, picture: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sample": sample, **{name: tf.gather(column, picture) for name, column in self._columns.items()}}

    @functools.cached_property
    def _columns(self) -> dict[str, tf.Tensor]:
        with tf.init_scope():
            return {
                "path": tf.constant([os.fsencode(path) for path in self.paths]),
                "label": tf.constant(self.labels),
                "height": tf.constant(self.heights),
                "width": tf.constant(self.widths),
                "road": tf.constant(self.roads),
            }
