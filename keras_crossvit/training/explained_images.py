"""Draws images of a run to look at: validation images with heat maps, and duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from PIL import Image

from keras_crossvit._internal.sheets import draw_sheet
from keras_crossvit.explaining.explainer import Explainer
from keras_crossvit.pipeline.batches import read_images
from keras_crossvit.pipeline.splits import Split
from keras_crossvit.preprocessing.images import read_image

_THUMBNAIL = 120  # pixels


def draw_explained_images(
    path: str | PathLike[str], model: Any, split: Split, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Draws images and what speaks for their predicted classes, by ablation.

    Args:
        path: Image file to write.
        model: A `CrossViT`.
        split: The images.
        rows: Some of the `predictions` of an `Evaluation` of the split.
    """
    pixels = read_images(split, [row["image"] for row in rows])
    explanations = Explainer(model, method="ablation", run_eagerly=True).explain(pixels)
    captions = [f"{i}: {row['probability']:.1%}" for i, row in enumerate(rows, start=1)]
    draw_sheet(path, [each.thumbnail() for each in explanations], captions)


def draw_duplicates(path: str | PathLike[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws images that a dataset has more than once, with the numbers of their groups.

    Args:
        path: Image file to write.
        rows: Rows of `find_duplicates`.
    """
    thumbnails = []
    for row in rows:
        image = Image.fromarray(read_image(row["file"]))
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        thumbnails.append(image)
    draw_sheet(path, thumbnails, [f"{row['group']}: {row['split']}" for row in rows])
