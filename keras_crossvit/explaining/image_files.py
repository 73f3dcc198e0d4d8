"""Explanations of image files and folders of them: a picture of each, and a page of all."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.image_files import files_inside, files_of
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.model_paths import resolve_model_path
from keras_crossvit.explaining.explainer import BATCH_SIZE, Explainer, resolve_method
from keras_crossvit.explaining.gallery import Gallery
from keras_crossvit.models.loading import load_model
from keras_crossvit.preprocessing.files import map_files
from keras_crossvit.runtimes.formats import model_digest


def explain_files(
    model: str | PathLike[str],
    paths: Sequence[str | PathLike[str]],
    folder: str | PathLike[str],
    *,
    classes: Any = None,
    method: str = "auto",
    crop_fraction: float | None = None,
    follow_links: bool = False,
) -> tuple[Path, int, int]:
    """Explains image files, and the files below folders; writes a picture of each and a page with all of them.

    If it is interrupted, the same call continues: images that have not changed keep their pictures.

    Args:
        model: Path of a checkpoint that describes its model, or of a run folder.
        paths: Files and folders.
        folder: New or empty folder to write to, or that of an earlier call with the same model and settings.
        classes: As in `explain`, JSON values. Defaults to None.
        method: As in `explain`. Defaults to "auto".
        crop_fraction: As in `explain`. Defaults to None.
        follow_links: Whether to read files outside of a given folder that links in it lead to. Defaults to False.

    Returns:
        The page, and the numbers of explained and of unreadable files.

    Raises:
        FileExistsError: the folder has other files, or explanations with another model or other settings.
        ValueError: as in `explain`, or no file can be read.
    """
    method, file = resolve_method(method), resolve_model_path(model)
    found = list(files_of(paths, follow_links=follow_links))
    if not found:
        raise InvalidValueError(f"There are no files in {', '.join(map(repr, map(str, paths)))}; pass image files.")
    settings = {"classes": classes, "method": method, "crop_fraction": crop_fraction}
    gallery = Gallery(folder, {"model sha256": model_digest(file), **settings})
    unreadable = list[str]()

    def skip(path: str, error: Exception) -> None:
        logger.warning("%s", error)
        unreadable.append(path)

    files = files_inside(found, on_error=skip)
    missing = [path for path in files if not gallery.has(path)]
    if missing:
        run_eagerly = len(missing) <= 2 * BATCH_SIZE
        explainer = Explainer(
            load_model(file), classes=classes, method=method, crop_fraction=crop_fraction, run_eagerly=run_eagerly
        )
        progress = keras.utils.Progbar(len(missing), unit_name="image") if sys.stderr.isatty() else None
        # Occlusion takes seconds for an image, whether or not there are others in its batch.
        batch_size = 1 if method == "occlusion" else BATCH_SIZE
        for names, samples in map_files(explainer.read, missing, batch_size, on_error=skip):
            for name, explanation in zip(names, explainer.explain_samples(samples)[0], strict=True):
                gallery.write(name, explanation)
            if progress:
                progress.add(len(names))
    if len(unreadable) == len(found):
        raise InvalidValueError(f"None of the {len(found)} files could be read; see the messages above.")
    return gallery.write_page(str(model), files), len(found) - len(unreadable), len(unreadable)
