"""Figures for TensorBoard, written without it."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

_SCALAR = 1  # tensorboard.compat.proto.summary_pb2.DATA_CLASS_SCALAR


class ScalarLogs:
    """Event files of training and validation in a folder each, as Keras' `TensorBoard` callback names them.

    That callback, and `tf.summary.scalar` under it, needs TensorBoard installed; reading does, writing does not.

    Args:
        folder: Folder of the two.
    """

    def __init__(self, folder: str | PathLike) -> None:
        self._folder = Path(folder)
        self._writers: dict[str, Any] = {}

    def write(self, row: Mapping[str, float]) -> None:
        """Writes a row of figures at the step of its `epoch`; those that begin with `val_` are of validation."""
        import tensorflow as tf

        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=_SCALAR
        )
        for name, value in row.items():
            if name == "epoch":
                continue
            split = "validation" if name.startswith("val_") else "train"
            if split not in self._writers:
                self._writers[split] = tf.summary.create_file_writer(str(self._folder / split))
            with self._writers[split].as_default():
                tf.summary.write(
                    f"epoch_{name.removeprefix('val_')}", tf.constant(value, tf.float32), int(row["epoch"]), metadata
                )
        for writer in self._writers.values():
            writer.flush()
