"""Writes the configuration that starts the official TensorFlow Serving image on an exported model."""

from __future__ import annotations

import string
from importlib import metadata, resources
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.files import write_text
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.served_name import require_served_name


@known_keywords_only
def write_serving_files(folder: str | PathLike[str]) -> Path:
    """Writes `models.config`, `batching.config` and `docker-compose.yaml` into `<folder>.serving/`.

    Existing ones are replaced. The tag of the image `tensorflow/serving` is the version of TensorFlow installed here.

    Args:
        folder: Folder of all versions of the model, whose name is the model's.

    Returns:
        The folder of the files.

    Raises:
        OSError: the files cannot be written.
        ValueError: the folder's name cannot be used in URLs, by Docker and by TensorFlow Serving.
    """
    folder = Path(folder).absolute()
    require_served_name(folder.name)
    values = {"name": folder.name, "tag": metadata.version("tensorflow")}
    target = folder.with_name(f"{folder.name}.serving")
    for template in resources.files("keras_crossvit.exporting").joinpath("templates").iterdir():
        text = string.Template(template.read_text(encoding="utf-8")).substitute(values)
        write_text(target / template.name, text)
    return target
