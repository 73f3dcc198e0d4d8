"""Draws a contact sheet of the model's inputs."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_crossvit._internal.checks import require_integer
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.user_text import shown_name
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.preprocessing.transforms import channel_statistics

_MARGIN, _TEXT_HEIGHT, _FONT_SIZE = 8, 36, 13
_CELLS_PER_ROW = 4
_MIN_FRACTION = 0.1  # of a target to be named; more than label smoothing gives a class
_BACKGROUND, _INK = "#ffffff", "#202020"


@known_keywords_only
def draw_contact_sheet(
    path: str | PathLike[str],
    batches: Iterable[Any],
    config: CrossViTConfig,
    *,
    class_names: Sequence[str] | None = None,
    max_images: int = 8,
) -> None:
    """Draws augmented images as the model sees them, with their targets.

    Each cell shows the small-patch image, the large-patch image at the same scale, and the target's two main classes.

    Args:
        path: Image file to write; the suffix determines the format.
        batches: Batches from `training_batches` or `evaluation_batches`.
        config: The model's configuration.
        class_names: Class names. Defaults to None: class numbers.
        max_images: Maximum number of images. Defaults to 8.
    """
    require_integer("max_images", max_images, minimum=1)
    names = list(map(str, class_names or range(config.num_classes)))
    cells: list[Image.Image] = []
    for images, target in batches:
        rows = zip(*(np.asarray(each) for each in (*images, target)), strict=True)
        cells += [_cell([small_patch, large_patch], of_image, names) for small_patch, large_patch, of_image in rows]
        if len(cells) >= max_images:
            break
    if not cells:
        raise InvalidValueError("There are no images to draw; pass batches with at least one image.")
    cells = cells[:max_images]
    width, height = cells[0].size
    columns = min(_CELLS_PER_ROW, len(cells))
    size = columns * width + _MARGIN, -(-len(cells) // columns) * height + _MARGIN
    sheet = Image.new("RGB", size, _BACKGROUND)
    for i, cell in enumerate(cells):
        sheet.paste(cell, (_MARGIN + i % columns * width, _MARGIN + i // columns * height))
    with atomic_write(path) as unfinished:
        sheet.save(unfinished)


def _cell(images: Sequence[np.ndarray], target: np.ndarray, names: Sequence[str]) -> Image.Image:
    panels = [Image.fromarray(_as_bytes(image)) for image in images]
    width = sum(panel.width + _MARGIN for panel in panels)
    height = max(panel.height for panel in panels)
    cell = Image.new("RGB", (width, height + _TEXT_HEIGHT + _MARGIN), _BACKGROUND)
    left = 0
    for panel in panels:
        cell.paste(panel, (left, height - panel.height))
        left += panel.width + _MARGIN
    font = _font()
    draw = ImageDraw.Draw(cell)
    for line, text in enumerate(_target_lines(target, names)):
        while len(text) > 1 and draw.textlength(text, font) > width - _MARGIN:
            text = text.removesuffix("…")[:-1] + "…"
        draw.text((0, height + 2 + line * (_FONT_SIZE + 3)), text, _INK, font)
    return cell


@functools.cache
def _font() -> Any:
    """Returns matplotlib's font if it is installed, since Pillow's own has only English letters."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return ImageFont.load_default(_FONT_SIZE)
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _FONT_SIZE)


def _target_lines(target: np.ndarray, names: Sequence[str]) -> list[str]:
    best = [i for i in np.argsort(-target, kind="stable")[:2] if target[i] >= _MIN_FRACTION]
    return [f"target {target[i]:.0%} {shown_name(names[i])}" for i in best] or ["target: no class above 10%"]


def _as_bytes(image: np.ndarray) -> np.ndarray:
    mean, std = (np.array(each) for each in channel_statistics(image.shape[-1]))
    values = np.clip(np.round((image * std + mean) * 255), 0, 255).astype("uint8")
    return np.repeat(values, 3, axis=2) if values.shape[-1] == 1 else values
