"""Draws images of a run to look at: validation images with heat maps, and duplicates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

from PIL import Image

from keras_crossvit._internal.sheets import draw_sheet
from keras_crossvit.explaining.explainer import Explainer
from keras_crossvit.pipeline.batches import read_images
from keras_crossvit.pipeline.splits import Split
from keras_crossvit.preprocessing.images import read_image

_THUMBNAIL = 120  # pixels


def explained_thumbnails(model: Any, split: Split, rows: Iterable[Mapping[str, Any]]) -> dict[int, Image.Image]:
    """Returns images and what speaks for their predicted classes, by ablation, by their number in the split.

    Args:
        model: A `CrossViT`.
        split: The images.
        rows: Some of the `predictions` of an `Evaluation` of the split.
    """
    images = list(dict.fromkeys(row["image"] for row in rows))
    explainer = Explainer(model, method="ablation", run_eagerly=True)
    explanations = explainer.explain(read_images(split, images))
    return {image: each.thumbnail() for image, each in zip(images, explanations, strict=True)}


def draw_explained_images(
    path: str | PathLike[str], thumbnails: Callable[[], Mapping[int, Image.Image]], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Draws explained images with the probabilities of their predicted classes.

    Args:
        path: Image file to write.
        thumbnails: Returns what `explained_thumbnails` did for these rows.
        rows: The rows, in their order.
    """
    captions = [f"{i}: {row['probability']:.1%}" for i, row in enumerate(rows, start=1)]
    draw_sheet(path, [thumbnails()[row["image"]] for row in rows], captions)


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
