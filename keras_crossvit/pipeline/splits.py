"""The images of a split, from files, shards or a dataset, as records in the order of an epoch.

A record is a dictionary of tensors: "path" or "contents" (the encoded image), "label" (a class, or a vector of 0 and
1), "height" and "width" (of the upright image), "decoder" (a value of `Decoder`) and "sample" (image * repeats + copy,
which seeds its random numbers).
"""

from __future__ import annotations

import dataclasses
import functools
import os

import numpy as np
import tensorflow as tf

from keras_crossvit.pipeline.decoding import Decoder
from keras_crossvit.pipeline.elements import map_elements
from keras_crossvit.pipeline.order import epoch_order, epoch_stream

_SHARDS_AT_ONCE = 16
_COMPARED = 8  # images of a dataset, to find out whether it can be repeated
_FEATURES = {
    "contents": tf.io.FixedLenFeature((), tf.string),
    **{name: tf.io.FixedLenFeature((), tf.int64) for name in ("label", "height", "width", "decoder", "image")},
}
Record = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class FileSplit:
    """Image files. With random access, the order of an epoch is one permutation.

    Args:
        files: Paths of the files.
        labels: Shape (images,), or (images, classes) with 0 and 1 for multi-label images; int32.
        heights: Shape (images,), int32, in pixels.
        widths: The same.
        decoders: Shape (images,), int32: values of `Decoder`.
    """

    files: tuple[str, ...]
    labels: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    decoders: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    @property
    def is_multi_label(self) -> bool:
        """Whether labels are vectors of 0 and 1."""
        return self.labels.ndim == 2

    def take(self, indices: np.ndarray) -> FileSplit:
        """Returns a split of some of the images."""
        columns = (each[indices] for each in (self.labels, self.heights, self.widths, self.decoders))
        return FileSplit(tuple(self.files[i] for i in indices), *columns)

    def records(self, *, repeats: int, seed: int, epoch: int, skip: int = 0) -> tf.data.Dataset:
        """Returns the records of an epoch, without the first `skip`."""
        samples = epoch_order(len(self), repeats, seed=seed, epoch=epoch)[skip:]
        stream = tf.data.Dataset.from_tensor_slices(samples)
        return map_elements(stream, lambda sample: self._record(sample, sample // repeats))

    def records_in_order(self) -> tf.data.Dataset:
        """Returns the records in the order of the files."""
        return map_elements(tf.data.Dataset.range(len(self)), lambda index: self._record(index, index))

    def _record(self, sample: tf.Tensor, index: tf.Tensor) -> Record:
        return {"sample": sample, **{name: tf.gather(column, index) for name, column in self._columns.items()}}

    @functools.cached_property
    def _columns(self) -> Record:
        with tf.init_scope():
            return {
                "path": tf.constant([os.fsencode(path) for path in self.files]),
                "label": tf.constant(self.labels),
                "height": tf.constant(self.heights),
                "width": tf.constant(self.widths),
                "decoder": tf.constant(self.decoders),
            }


@dataclasses.dataclass(frozen=True, eq=False)
class ShardSplit:
    """Images in TFRecord files, which are read sequentially.

    Args:
        files: Paths of the shards.
        labels: Shape (images,), int32, in the order of the shards.
    """

    files: tuple[str, ...]
    labels: np.ndarray
    is_multi_label: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def records(self, *, repeats: int, seed: int, epoch: int, skip: int = 0) -> tf.data.Dataset:
        """Returns the records of an epoch: shards in random order, 16 read in turn, shuffled within windows."""
        files = [os.fsencode(self.files[i]) for i in epoch_order(len(self.files), 1, seed=seed, epoch=epoch)]
        examples = tf.data.Dataset.from_tensor_slices(files).interleave(
            tf.data.TFRecordDataset, cycle_length=_SHARDS_AT_ONCE, num_parallel_calls=2, deterministic=True
        )
        stream = epoch_stream(examples, len(self), repeats=repeats, seed=seed, epoch=epoch, skip=skip)
        return map_elements(stream, lambda example, copy: self._record(example, copy, repeats))

    def records_in_order(self) -> tf.data.Dataset:
        """Returns the records in the order of the shards."""
        examples = tf.data.TFRecordDataset(list(map(os.fsencode, self.files)))
        return map_elements(examples, lambda example: self._record(example, 0, 1))

    def _record(self, example: tf.Tensor, copy: tf.Tensor | int, repeats: int) -> Record:
        record = tf.io.parse_single_example(example, _FEATURES)
        record |= {name: tf.cast(record[name], tf.int32) for name in ("label", "height", "width", "decoder")}
        record["label"] = _require_class(record["label"], int(self.labels.max()) + 1)
        return _with_sample(record, copy, repeats)


@dataclasses.dataclass(frozen=True, eq=False)
class DatasetSplit:
    """A `tf.data.Dataset` of (image, label), which must give the same order each time it is read.

    Args:
        dataset: Images of shape (height, width, 1 or 3), uint8, and classes or vectors of 0 and 1.
        count: Number of images.
        num_classes: Number of classes; reading fails at a label outside of them.
    """

    dataset: tf.data.Dataset
    count: int
    num_classes: int
    labels: None = None  # unknown without reading everything
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count

    @property
    def is_multi_label(self) -> bool:
        """Whether labels are vectors of 0 and 1."""
        return self.dataset.element_spec[1].shape.rank == 1

    def is_repeatable(self) -> bool:
        """Returns whether the first images are the same when they are read twice."""
        first, second = ([np.asarray(image) for image, _ in self.dataset.take(_COMPARED)] for _ in range(2))
        return all(map(np.array_equal, first, second))

    def records(self, *, repeats: int, seed: int, epoch: int, skip: int = 0) -> tf.data.Dataset:
        """Returns the records of an epoch, shuffled within windows."""
        stream = epoch_stream(self._elements(), len(self), repeats=repeats, seed=seed, epoch=epoch, skip=skip)
        return map_elements(stream, lambda record, copy: _with_sample(record, copy, repeats))

    def records_in_order(self) -> tf.data.Dataset:
        """Returns the records in the order of the dataset."""
        return map_elements(self._elements(), lambda record: _with_sample(record, 0, 1))

    def _elements(self) -> tf.data.Dataset:
        return map_elements(self.dataset.enumerate(), lambda index, pair: self._element(index, *pair))

    def _element(self, index: tf.Tensor, image: tf.Tensor, label: tf.Tensor) -> Record:
        image = tf.image.grayscale_to_rgb(image) if image.shape[-1] == 1 else image
        height, width, _ = tf.unstack(tf.shape(image))
        return {
            "image": index,
            "contents": tf.io.serialize_tensor(image),  # a string, so that images of all sizes can be batched
            "label": _require_class(label, self.num_classes) if label.shape.rank == 0 else label,
            "height": height,
            "width": width,
            "decoder": tf.constant(int(Decoder.TENSOR)),
        }


Split = FileSplit | ShardSplit | DatasetSplit


def _require_class(label: tf.Tensor, num_classes: int) -> tf.Tensor:
    is_class = tf.debugging.Assert((label >= 0) & (label < num_classes), ["no such class:", label])
    with tf.control_dependencies([is_class]):
        return tf.identity(label)


def _with_sample(record: Record, copy: tf.Tensor | int, repeats: int) -> Record:
    rest = dict(record)
    return {**rest, "sample": rest.pop("image") * repeats + tf.cast(copy, tf.int64)}
