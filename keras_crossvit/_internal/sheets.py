"""Draws many images on one sheet, with a line of text below each."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

from PIL import Image, ImageDraw, ImageFont

from keras_crossvit._internal.files import atomic_write

_WIDTH, _CELLS_PER_ROW = 900, 4  # pixels, if at least so many cells fit
_GAP, _LINE = 8, 18  # pixels, between cells and of a line of text
_BACKGROUND, _INK = "#ffffff", "#202020"


def draw_sheet(
    path: str | PathLike[str], cells: Sequence[Image.Image], captions: Sequence[str], *, columns: int | None = None
) -> None:
    """Writes a sheet, atomically.

    Args:
        path: Image file to write.
        cells: At least one image.
        captions: A line for each.
        columns: Cells in a row. Defaults to None: as many as fit on 900 pixels, but at least four.
    """
    width, height = (max(getattr(cell, side) for cell in cells) + _GAP for side in ("width", "height"))
    columns = min(columns or max(_CELLS_PER_ROW, _WIDTH // width), len(cells))
    size = columns * width + _GAP, -(-len(cells) // columns) * (height + _LINE) + _GAP
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, (cell, caption) in enumerate(zip(cells, captions, strict=True)):
        left, top = _GAP + i % columns * width, _GAP + i // columns * (height + _LINE)
        sheet.paste(cell, (left, top))
        draw.text((left, top + cell.height + 2), caption, _INK, font)
    with atomic_write(path) as unfinished:
        sheet.save(unfinished)
