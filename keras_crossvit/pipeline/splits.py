"""The pictures of one split, wherever they lie, as one kind of record.

A record is a dictionary of tensors: "path" or "contents" (what is decoded), "label" (a class, or a vector of 0 and 1),
"height", "width" (of the upright index), "road" (how it is decoded) and "sample" (picture * repeats + copy, from
which its random numbers follow).

Every split has `len()`, `labels` (an int32 array, or None where nobody knows them without reading all), `has_vectors`
(whether labels are vectors), `files` (empty where there are none), `records(repeats=, seed=, epoch=, skip=)` in the
order of an epoch, and `records_in_order()`.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any

import numpy as np
import tensorflow as tf

from keras_crossvit.pipeline.decoding import Decoder
from keras_crossvit.pipeline.order import epoch_order, epoch_stream

_SHARDS_AT_ONCE = 16
_FEATURES = {
    "contents": tf.io.FixedLenFeature((), tf.string),
    **{name: tf.io.FixedLenFeature((), tf.int64) for name in ("label", "height", "width", "decoder", "image")},
}


@dataclasses.dataclass(frozen=True, eq=False)
class FileSplit:
    """Pictures in files of their own; any is reached at once, so an epoch's order is one permutation.

    Args:
        paths: The files.
        labels: Shape (pictures,), or (pictures, classes) for vectors of 0 and 1; int32.
        heights: Shape (pictures,), int32, in pixels.
        widths: The same.
        decoders: Shape (pictures,), int32: values of `Decoder`.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    decoders: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def has_vectors(self) -> bool:
        """Whether labels are vectors of 0 and 1."""
        return self.labels.ndim == 2

    @property
    def files(self) -> tuple[str, ...]:
        """The files."""
        return self.paths

    def take(self, places: np.ndarray) -> FileSplit:
        """The pictures at some places."""
        columns = (each[places] for each in (self.labels, self.heights, self.widths, self.decoders))
        return FileSplit(tuple(self.paths[i] for i in places), *columns)

    def records(self, *, repeats: int, seed: int, epoch: int, skip: int = 0) -> tf.data.Dataset:
        """The records of an epoch in its order, without the first `skip`."""
        samples = epoch_order(len(self), repeats, seed=seed, epoch=epoch)[skip:]
        return tf.data.Dataset.from_tensor_slices(samples).map(lambda sample: self._record(sample, sample // repeats))

    def records_in_order(self) -> tf.data.Dataset:
        """The records as they lie."""
        return tf.data.Dataset.range(len(self)).map(lambda index: self._record(index, index))

    def _record(self, sample: tf.Tensor, index: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sample": sample, **{name: tf.gather(column, index) for name, column in self._columns.items()}}

    @functools.cached_property
    def _columns(self) -> dict[str, tf.Tensor]:
        with tf.init_scope():
            return {
                "path": tf.constant([os.fsencode(path) for path in self.paths]),
                "label": tf.constant(self.labels),
                "height": tf.constant(self.heights),
                "width": tf.constant(self.widths),
                "decoder": tf.constant(self.decoders),
            }


@dataclasses.dataclass(frozen=True, eq=False)
class ShardSplit:
    """Pictures in TFRecord files of many, which are read from their beginning to their end.

    Args:
        files: The shards.
        labels: Shape (pictures,), int32, in the order of the shards.
    """

    files: tuple[str, ...]
    labels: np.ndarray
    has_vectors: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def records(self, *, repeats: int, seed: int, epoch: int, skip: int = 0) -> tf.data.Dataset:
        """The records of an epoch: shards in another order, several read at once, shuffled within windows."""
        files = [os.fsencode(self.files[i]) for i in epoch_order(len(self.files), 1, seed=seed, epoch=epoch)]
        raw = tf.data.Dataset.from_tensor_slices(files).interleave(
            tf.data.TFRecordDataset, cycle_length=_SHARDS_AT_ONCE, num_parallel_calls=2, deterministic=True
        )
        stream = epoch_stream(raw, len(self), repeats=repeats, seed=seed, epoch=epoch, skip=skip)
        return stream.map(lambda example, copy: self._parsed(example, copy, repeats))

    def records_in_order(self) -> tf.data.Dataset:
        """The records as they lie."""
        return tf.data.TFRecordDataset(list(map(os.fsencode, self.files))).map(lambda raw: self._parsed(raw, 0, 1))

    def _parsed(self, example: tf.Tensor, copy: Any, repeats: int) -> dict[str, tf.Tensor]:
        record = tf.io.parse_single_example(example, _FEATURES)
        narrow = {name: tf.cast(record[name], tf.int32) for name in ("height", "width", "decoder")}
        narrow["label"] = _known(tf.cast(record["label"], tf.int32), int(self.labels.max()) + 1)
        return _with_sample({**record, **narrow}, copy, repeats)


@dataclasses.dataclass(frozen=True, eq=False)
class DatasetSplit:
    """Pictures of a `tf.data.Dataset` of (image, label), which has to give the same order each time it is read.

    Args:
        dataset: Images of shape (height, width, 1 or 3), uint8, and classes or vectors of 0 and 1.
        count: How many there are.
        num_classes: How many classes; a label that is none of them ends the reading.
    """

    dataset: Any
    count: int
    num_classes: int
    labels: None = None
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count

    @property
    def has_vectors(self) -> bool:
        """Whether labels are vectors of 0 and 1."""
        return self.dataset.element_spec[1].shape.rank == 1

    def records(self, *, repeats: int, seed: int, epoch: int, skip: int = 0) -> tf.data.Dataset:
        """The records of an epoch, shuffled within windows."""
        stream = epoch_stream(self._elements(), len(self), repeats=repeats, seed=seed, epoch=epoch, skip=skip)
        return stream.map(lambda record, copy: _with_sample(record, copy, repeats))

    def records_in_order(self) -> tf.data.Dataset:
        """The records as they come."""
        return self._elements().map(lambda record: _with_sample(record, 0, 1))

    def _elements(self) -> tf.data.Dataset:
        return self.dataset.enumerate().map(lambda index, pair: self._element(index, *pair))

    def _element(self, index: tf.Tensor, image: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.image.grayscale_to_rgb(image) if image.shape[-1] == 1 else image
        if label.shape.rank == 0:
            label = _known(label, self.num_classes)
        height, width, _ = tf.unstack(tf.shape(image))
        return {
            "image": index,
            "contents": tf.io.serialize_tensor(image),  # one string, so that pictures of all sizes go together
            "label": label,
            "height": height,
            "width": width,
            "decoder": tf.constant(int(Decoder.TENSOR)),
        }


def _known(label: tf.Tensor, num_classes: int) -> tf.Tensor:
    """The label, if it is that of a class; else reading it fails."""
    known = tf.debugging.Assert((label >= 0) & (label < num_classes), ["no such class:", label])
    with tf.control_dependencies([known]):
        return tf.identity(label)


def _with_sample(record: dict[str, tf.Tensor], copy: Any, repeats: int) -> dict[str, tf.Tensor]:
    rest = dict(record)
    return {**rest, "sample": rest.pop("image") * repeats + tf.cast(copy, tf.int64)}
