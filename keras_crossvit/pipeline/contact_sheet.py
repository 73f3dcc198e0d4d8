"""A picture of what the model is fed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_crossvit._internal.checks import require_integer
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.files import atomic_write, shown_name
from keras_crossvit.preprocessing.transforms import IMAGENET_MEAN, IMAGENET_STD

_MARGIN, _TEXT_HEIGHT, _FONT_SIZE = 8, 36, 13
_CELLS_ACROSS = 4
_NAMED = 0.1  # least share of a target that is worth a word: more than smoothing leaves to a class
_BACKGROUND, _INK = "#ffffff", "#202020"


def draw_contact_sheet(
    path: str | PathLike,
    batches: Any,
    config: Any,
    *,
    class_names: Sequence[str] | None = None,
    max_images: int = 8,
) -> None:
    """Writes a picture of augmented inputs as the model sees them, whole or not at all.

    Each cell shows the small-patch image, the large-patch image in its true proportion beside it, and the classes of
    the target with their shares.

    Args:
        path: File to write, of a format that Pillow knows by its suffix, such as .png.
        batches: Dataset of `training_batches` or `evaluation_batches`, or any iterable of such elements.
        config: `CrossViTConfig` of the model.
        class_names: Names of the classes. Defaults to None: their numbers.
        max_images: How many to show, at most. Defaults to 8.
    """
    require_integer("max_images", max_images, minimum=1)
    names = list(map(str, class_names or range(config.num_classes)))
    shown = []
    for (small_patch, large_patch), target in batches:
        shown += list(zip(*(np.asarray(each) for each in (small_patch, large_patch, target)), strict=True))
        if len(shown) >= max_images:
            break
    cells = [_cell(images, target, names) for *images, target in shown[:max_images]]
    if not cells:
        raise InvalidValueError("there is no batch to draw; give batches with a picture at least.")
    width, height = cells[0].size
    across = min(_CELLS_ACROSS, len(cells))
    down = -(-len(cells) // across)
    sheet = Image.new("RGB", (across * width + _MARGIN, down * height + _MARGIN), _BACKGROUND)
    for i, cell in enumerate(cells):
        sheet.paste(cell, (_MARGIN + i % across * width, _MARGIN + i // across * height))
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
    for line, text in enumerate(_words(target, names)):
        while len(text) > 1 and draw.textlength(text, font) > width - _MARGIN:
            text = text.removesuffix("…")[:-1] + "…"
        draw.text((0, height + 2 + line * (_FONT_SIZE + 3)), text, _INK, font)
    return cell


@functools.cache
def _font() -> Any:
    """The font of matplotlib where that is installed; Pillow's own has no letter beyond English."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return ImageFont.load_default(_FONT_SIZE)
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _FONT_SIZE)


def _words(target: np.ndarray, names: Sequence[str]) -> list[str]:
    best = [i for i in np.argsort(-target, kind="stable")[:2] if target[i] >= _NAMED]
    return [f"target {target[i]:.0%} {shown_name(names[i])}" for i in best] or ["target: no class above 10%"]


def _as_bytes(image: np.ndarray) -> np.ndarray:
    mean, std = (np.array(each) for each in (IMAGENET_MEAN, IMAGENET_STD))
    if image.shape[-1] == 1:
        mean, std = mean.mean(), std.mean()
    values = np.clip(np.round((image * std + mean) * 255), 0, 255).astype("uint8")
    return np.repeat(values, 3, axis=2) if values.shape[-1] == 1 else values
