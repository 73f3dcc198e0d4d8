"""What an explanation holds, and how it is drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from os import PathLike

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.user_text import shown_name

METHODS = ("ablation", "relevance", "rollout", "attention", "occlusion")
Box = tuple[float, float, float, float]  # top, left, height and width in pixels of an image
# ColorBrewer's PuOr, which color-blind people can tell apart
FOR, AGAINST = (230, 97, 1), (94, 60, 153)
_NOT_SEEN = (200, 200, 200)
_SIDE, _GAP, _LINE = 320, 10, 20  # pixels: longest side of a panel, gap, height of a line of text
OPAQUE, _OPAQUE_NOT_SEEN = 0.85, 0.75  # the first at the largest value


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Which parts of an image speak for a class.

    Args:
        image: The image, uint8 of shape (height, width, 3).
        class_name: The class that is explained.
        against: The class that it is compared with, or None.
        probability: The model's probability of the class.
        method: One of `METHODS`.
        small_patch: What each patch of the small-patch branch contributes, shape (rows, columns). Positive values speak
            for the class. The unit is that of the method: logits for "ablation" and "occlusion", else a weight.
        large_patch: The same for the large-patch branch.
        box: Top, left, height and width in pixels of what the model has seen of the image.
    """

    image: np.ndarray
    class_name: str
    against: str | None
    probability: float
    method: str
    small_patch: np.ndarray
    large_patch: np.ndarray
    box: Box
    _faithfulness: Callable[[Explanation], dict[str, float]] = dataclasses.field(repr=False)

    @cached_property
    def heatmap(self) -> np.ndarray:
        """Contribution of every pixel of the image, both scales together, shape (height, width).

        The values add up to those of both grids. What the crop has cut away is NaN: the model has not seen it.
        """
        return self._on_image(self.small_patch) + self._on_image(self.large_patch)

    @cached_property
    def faithfulness(self) -> dict[str, float]:
        """Areas under the curves of the class's probability, from 0 to 1, beside those of a random order.

        `deletion`: the most important cells are covered first, in both images; lower is better. `insertion`: they are
        uncovered first; higher is better. `random_deletion` and `random_insertion` are means of three random orders.
        Computed when first asked for: some 160 forward passes.
        """
        return self._faithfulness(self)

    @property
    def title(self) -> str:
        """The class, its probability and the method, in one line."""
        compared = f" rather than {shown_name(self.against)}" if self.against else ""
        return f"{shown_name(self.class_name)}{compared}, {self.probability:.1%}, by {self.method}"

    def plot(self) -> Image.Image:
        """Returns a picture: the image, what each scale contributes, and both together, with a scale."""
        shown = self._at_panel_size()
        maps = [shown._on_image(self.small_patch), shown._on_image(self.large_patch), shown.heatmap]
        panels = [Image.fromarray(shown.image), *shown._overlays(*maps)]
        width, height = panels[0].size
        page = Image.new("RGB", (4 * (width + _GAP) + _GAP, height + 3 * _LINE + 2 * _GAP), "white")
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
        draw.text((_GAP, _GAP), self.title, "black", font)
        rows, columns = self.small_patch.shape
        names = ["image", f"small patches, {rows} x {columns}"]
        names += ["large patches, {} x {}".format(*self.large_patch.shape), "both"]
        for i, (name, panel) in enumerate(zip(names, panels, strict=True)):
            left = _GAP + i * (width + _GAP)
            page.paste(panel, (left, _LINE + 2 * _GAP))
            draw.text((left, height + _LINE + 2 * _GAP + 3), name, "black", font)
        self._draw_scale(page, (_GAP + 3 * (width + _GAP), height + 2 * _LINE + 2 * _GAP))
        return page

    def thumbnail(self) -> Image.Image:
        """Returns the image and what both scales contribute, side by side, at half the size of `plot`."""
        shown = self._at_panel_size()
        panels = [Image.fromarray(shown.image), *shown._overlays(shown.heatmap)]
        page = Image.new("RGB", (2 * panels[0].width, panels[0].height))
        for i, panel in enumerate(panels):
            page.paste(panel, (i * panel.width, 0))
        return page.reduce(2)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the picture that `plot` returns; the suffix determines the format, such as `.png`."""
        with atomic_write(path) as unfinished:
            self.plot().save(unfinished)

    def _on_image(self, grid: np.ndarray) -> np.ndarray:
        height, width = self.image.shape[:2]
        top, left = (max(0, round(each)) for each in self.box[:2])
        bottom = min(height, max(top + 1, round(self.box[0] + self.box[2])))
        right = min(width, max(left + 1, round(self.box[1] + self.box[3])))
        values = Image.fromarray(grid.astype("float32")).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
        result = np.full((height, width), np.nan, "float32")
        result[top:bottom, left:right] = np.asarray(values) * (grid.size / values.width / values.height)
        return result

    def _overlays(self, *maps: np.ndarray) -> list[Image.Image]:
        """Returns maps of heat, on one scale of colors, each on a gray copy of the image."""
        largest = max(float(np.nanmax(np.abs(each))) for each in maps) or 1.0
        gray = Image.fromarray(self.image).convert("L").point(lambda value: 64 + 0.7 * value).convert("RGB")
        return [_overlay(gray, each / largest) for each in maps]

    def _at_panel_size(self) -> Explanation:
        image, box = at_panel_size(self.image, self.box)
        return dataclasses.replace(self, image=image, box=box)

    @staticmethod
    def _draw_scale(page: Image.Image, corner: tuple[int, int]) -> None:
        ramp = np.linspace(-1, 1, 100, dtype="float32").reshape(1, 100, 1)
        color = np.where(ramp > 0, np.array(FOR, "float32"), np.array(AGAINST, "float32"))
        bar = np.repeat(255 * (1 - np.abs(ramp)) + color * np.abs(ramp), 10, axis=0).astype("uint8")
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)
        draw.text(corner, "against", "black", font)
        page.paste(Image.fromarray(bar), (corner[0] + 50, corner[1] + 3))
        draw.text((corner[0] + 156, corner[1]), "for; gray: not seen", "black", font)


def at_panel_size(image: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """Returns an image and a box in it at the size at which images are drawn."""
    height, width = image.shape[:2]
    factor = _SIDE / max(height, width)
    new_height, new_width = (max(1, round(each * factor)) for each in (height, width))
    down, across = new_height / height, new_width / width
    resized = np.asarray(Image.fromarray(image).resize((new_width, new_height)))
    return resized, (box[0] * down, box[1] * across, box[2] * down, box[3] * across)


def _overlay(gray: Image.Image, heat: np.ndarray) -> Image.Image:
    """Returns heat between -1 and 1, shape (height, width), on a gray image."""
    is_not_seen = np.isnan(heat)
    color = np.array([AGAINST, FOR, _NOT_SEEN], "uint8")[np.where(is_not_seen, 2, heat > 0)]
    strength = np.where(is_not_seen, _OPAQUE_NOT_SEEN, OPAQUE * np.abs(heat))
    return Image.composite(Image.fromarray(color), gray, Image.fromarray((255 * strength).astype("uint8")))
