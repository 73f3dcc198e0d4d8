"""SavedModels written by Keras, without its notes and with the disk's troubles named."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from keras_crossvit.errors import disk_reason_of


def write_archive(archive: Any, path: Path) -> None:
    """Writes a `keras.export.ExportArchive`.

    Raises:
        OSError: TensorFlow cannot write it, most often because the disk is full.
    """
    import tensorflow as tf

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TensorFlow names the folder, which has no name yet
            archive.write_out(str(path), verbose=False)
    except tf.errors.OpError as error:
        raise OSError(
            f"TensorFlow cannot write a SavedModel ({disk_reason_of(error)}); make room on the disk."
        ) from error
