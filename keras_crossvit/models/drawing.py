"""Draws the architecture of a CrossViT as an SVG, from its configuration."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any
from xml.sax.saxutils import escape

from keras_crossvit._internal.files import write_text
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.user_text import shown_name
from keras_crossvit.models.config import BRANCHES, CrossViTConfig, config_of
from keras_crossvit.models.costs import count_macs, count_parameters
from keras_crossvit.models.graph import fusion_name

_ROWS = (196, 386)  # height of each branch's center line
_BOX, _IMAGE = 112, 104  # height of a box, longest side of an image
_GAP = 26  # between two boxes
_MOST_TILES, _MOST_LINES = 64, 48  # blocks drawn one by one, and lines of patches in an image
_STYLE = """
svg { --page: #fff; --ink: #1d2733; --soft: #5d6b7c; --line: #cfd6df; --stage: #f4f6f9; --small_patch: #b8500a;
  --small_patch_fill: #fdeee0; --large_patch: #1c5f9e; --large_patch_fill: #e4f0fb }
@media (prefers-color-scheme: dark) { svg { --page: #161b22; --ink: #e8edf3; --soft: #9ba8b7; --line: #3a4552;
  --stage: #1e252e; --small_patch: #f5a15c; --small_patch_fill: #3b2918; --large_patch: #78b7f2;
  --large_patch_fill: #172f47 } }
text { font: 13px system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; fill: var(--ink); text-anchor: middle }
.title { font-size: 20px; font-weight: 600; text-anchor: start }
.start { text-anchor: start }
.name { font-weight: 600 }
.soft { fill: var(--soft) }
.page { fill: var(--page); stroke: var(--line) }
.stage { fill: var(--stage); stroke: var(--line) }
.small_patch { stroke: var(--small_patch); fill: var(--small_patch_fill); stroke-width: 1.5 }
.large_patch { stroke: var(--large_patch); fill: var(--large_patch_fill); stroke-width: 1.5 }
.small_patch.full { fill: var(--small_patch); stroke: none }
.large_patch.full { fill: var(--large_patch); stroke: none }
.line { fill: none; stroke-width: 1.8 }
.thin { stroke-width: .7; stroke-opacity: .6 }
.joined { stroke: var(--soft); fill: var(--page); stroke-width: 1.5 }
"""


@known_keywords_only
def draw_architecture(model: Any, path: str | PathLike[str]) -> None:
    """Draws both branches of a model with their stages, fusions, token counts and costs as an SVG file.

    Equal stages that follow each other are drawn once. Multiply-accumulates are those of one image; see `count_macs`.

    Args:
        model: A `CrossViT`.
        path: File to write, such as "model.svg".

    Raises:
        TypeError: the model is not a `CrossViT`.
        OSError: the file cannot be written.
    """
    config = config_of(model)
    write_text(path, architecture_svg(config, name=model.name, average_patches=model.pool == "avg"))


def architecture_svg(config: CrossViTConfig, *, name: str, average_patches: bool = False) -> str:
    """Returns the drawing of `draw_architecture`.

    Args:
        config: The architecture.
        name: Name of the model.
        average_patches: Whether the heads read the mean of the patch tokens instead of the class tokens. Defaults to
            False.
    """
    return _Drawing(config).draw(name, average_patches)


class _Drawing:
    """SVG elements, added from left to right; `_right` is where they end, `_ends` where each branch's arrow starts."""

    def __init__(self, config: CrossViTConfig) -> None:
        self._config = config
        self._parameters, self._macs = count_parameters(config), count_macs(config)
        self._elements: list[str] = []
        self._right = 44.0
        self._ends = [self._right] * len(BRANCHES)

    def draw(self, name: str, average_patches: bool) -> str:
        classes = self._config.num_classes
        parameters, macs = sum(self._parameters.values()), sum(self._macs.values())
        total = f"{_count(parameters)} parameters, {_count(macs)} multiply-accumulates (MACs) for an image"
        self._text(30, 42, shown_name(name, 48), "title")
        self._text(30, 66, total, "start soft")
        self._images()
        self._embeddings()
        number = 0
        for depth, run in itertools.groupby(self._config.depth):
            length = len(list(run))
            self._stages(number, length, depth)
            number += length
        self._heads("mean of patches" if average_patches else "class token")
        width, height = max(720, self._right + 28), _ROWS[1] + _BOX / 2 + 64
        legend = (
            "● class token: in a fusion it attends to the patch tokens of the other branch, which stay as they are."
        )
        self._text(30, height - 24, legend, "start soft")
        description = f"{name}: a CrossViT with {total}, {classes} classes"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_number(width)} {_number(height)}" '
            f'width="{_number(width)}" height="{_number(height)}" role="img">\n'
            f"<title>{escape(shown_name(description, 200))}</title>\n<style>{_STYLE}</style>\n"
            f'<rect class="page" x="1" y="1" width="{_number(width - 2)}" height="{_number(height - 2)}" rx="14"/>\n'
            + "\n".join(self._elements)
            + "\n</svg>\n"
        )

    def _images(self) -> None:
        largest = max(max(sizes) for sizes in self._config.image_sizes)
        for b, branch in enumerate(BRANCHES):
            sizes, (rows, columns) = self._config.image_sizes[b], self._config.patch_grids[b]
            height, width = (_IMAGE * side / largest for side in sizes)
            left, top = self._right + (_IMAGE - width) / 2, _ROWS[b] - height / 2
            self._rectangle(left, top, width, height, branch)
            lines = []
            if max(rows, columns) <= _MOST_LINES:
                lines += [
                    f"M{_number(left)} {_number(top + height * i / rows)}h{_number(width)}" for i in range(1, rows)
                ]
                lines += [
                    f"M{_number(left + width * i / columns)} {_number(top)}v{_number(height)}"
                    for i in range(1, columns)
                ]
            self._path("".join(lines), f"{branch} line thin")
            center, patch = self._right + _IMAGE / 2, self._config.patch_size[b]
            self._text(center, top - 10, f"{sizes[0]} x {sizes[1]} x {self._config.in_channels}", "name")
            self._text(center, top + height + 18, f"patches of {patch} x {patch}", "soft")
            self._ends[b] = left + width
        self._right += _IMAGE

    def _embeddings(self) -> None:
        stem = "multi-conv stem" if self._config.multi_conv else "one convolution"
        for b, branch in enumerate(BRANCHES):
            rows, columns = self._config.patch_grids[b]
            tokens = [f"1 + {rows * columns:,} tokens", f"of {self._config.embed_dim[b]:,} channels"]
            self._arrow(b, self._right + _GAP)
            self._box(b, self._right + _GAP, 146, stem, tokens, [f"{branch}_embedding", f"{branch}_tokens"])
        self._right += _GAP + 146

    def _stages(self, first: int, length: int, depth: Sequence[int]) -> None:
        """Draws a run of equal stages, with the blocks and fusions of the first."""
        blocks_width, fusion_width, between = 172, 144, 44
        left = self._right + _GAP
        inner = left + 16
        width = 32 + blocks_width + between + fusion_width
        top, bottom = _ROWS[0] - _BOX / 2 - 42, _ROWS[1] + _BOX / 2 + 14
        self._rectangle(left, top, width, bottom - top, "stage", radius=12)
        name = f"stage {first}" if length == 1 else f"stages {first} to {first + length - 1}, each"
        self._text(left + width / 2, top + 25, name, "name")
        junction, fusion_left = inner + blocks_width + 16, inner + blocks_width + between
        center = fusion_left + fusion_width / 2
        for b, branch in enumerate(BRANCHES):
            self._arrow(b, inner)
            self._ends[b] = inner + blocks_width
            self._arrow(b, fusion_left)
            # From this branch's tokens to the fusion of the other one.
            start, end = _ROWS[b], _ROWS[1 - b] + (_BOX / 2 + 1) * (1 if b else -1)
            bend = start + 96 * (-1 if b else 1), end + 70 * (1 if b else -1)
            points = [(junction, start), (junction, bend[0]), (center, bend[1]), (center, end)]
            (x, y), *others = points
            curve = ", ".join(f"{_number(x)} {_number(y)}" for x, y in others)
            self._path(f"M{_number(x)} {_number(y)}C{curve}", f"{branch} line")
            self._head(b, *points[-1], down=-1 if b else 1)
            self._elements.append(f'<circle class="{branch} full" cx="{_number(x)}" cy="{_number(y)}" r="3.5"/>')
        rounds = max(1, depth[2])
        for b, branch in enumerate(BRANCHES):
            heads, hidden = self._config.num_heads[b], int(self._config.embed_dim[b] * self._config.mlp_ratio[b])
            blocks = [f"stage_{first}_{branch}_block_{j}" for j in range(depth[b])]
            title = f"{depth[b]} transformer block{'s' if depth[b] > 1 else ''}"
            self._box(b, inner, blocks_width, title, [f"{heads} heads, MLP {hidden:,}"], blocks, tiles=depth[b])
            details = ["cross-attention"] if rounds == 1 else [f"{rounds} rounds of", "cross-attention"]
            self._box(b, fusion_left, fusion_width, "● fusion", details, [fusion_name(first, b)])
        self._right = left + width

    def _heads(self, read: str) -> None:
        classes = self._config.num_classes
        left, width = self._right + _GAP, 144
        end = left + width + 52
        middle = sum(_ROWS) / 2
        for b, branch in enumerate(BRANCHES):
            self._arrow(b, left)
            title = "norm and head" if classes else "norm"
            self._box(b, left, width, title, [read], [f"{branch}_pooling", f"{branch}_head"])
            rim = middle + 25 * (1 if b else -1)
            self._path(f"M{_number(left + width)} {_ROWS[b]}H{_number(end)}V{_number(rim)}", f"{branch} line")
            self._head(b, end, rim, down=-1 if b else 1)
        self._elements.append(f'<circle class="joined" cx="{_number(end)}" cy="{_number(middle)}" r="24"/>')
        self._text(end, middle + 4.5, "mean" if classes else "join", "")
        self._text(
            end + 34, middle - 3, f"{classes:,}" if classes else f"{sum(self._config.embed_dim):,}", "name start"
        )
        self._text(end + 34, middle + 14, "logits" if classes else "channels", "start soft")
        self._right = end + 34 + 56

    def _box(
        self,
        b: int,
        left: float,
        width: float,
        title: str,
        details: Sequence[str],
        layers: Iterable[str],
        tiles: int = 0,
    ) -> None:
        """Draws a box of a branch with the costs of its layers."""
        layers = list(layers)
        self._rectangle(left, _ROWS[b] - _BOX / 2, width, _BOX, BRANCHES[b], radius=9)
        self._ends[b] = left + width
        lines = [(title, "name"), *((each, "") for each in details)]
        parameters, macs = (sum(each.get(name, 0) for name in layers) for each in (self._parameters, self._macs))
        lines.append((f"{_count(parameters)} parameters", "soft"))
        lines += [(f"{_count(macs)} MACs", "soft")] if macs else []
        center = left + width / 2
        y = _ROWS[b] - 8.5 * (len(lines) - 1) + 4.5
        if tiles:
            self._tiles(BRANCHES[b], center, y - 22, tiles)
            y += 11
        for i, (line, kind) in enumerate(lines):
            self._text(center, y + 17 * i, line, kind)

    def _tiles(self, branch: str, center: float, top: float, number: int) -> None:
        drawn = min(number, _MOST_TILES)
        step = min(16, 144 / drawn)
        for i in range(drawn):
            left = center + step * (i - drawn / 2 + 0.125)
            self._rectangle(left, top, 0.75 * step, 16, f"{branch} full", radius=min(3, step / 5))

    def _arrow(self, b: int, end: float) -> None:
        self._path(f"M{_number(self._ends[b])} {_ROWS[b]}H{_number(end - 1)}", f"{BRANCHES[b]} line")
        self._head(b, end - 1, _ROWS[b])

    def _head(self, b: int, x: float, y: float, *, down: int = 0) -> None:
        """Draws the tip of an arrow to the right, downwards (1) or upwards (-1)."""
        sides = f"l-4.5 {-9 * down}h9z" if down else "l-9 -4.5v9z"
        self._path(f"M{_number(x)} {_number(y)}{sides}", f"{BRANCHES[b]} full")

    def _path(self, line: str, kind: str) -> None:
        self._elements.append(f'<path class="{kind}" d="{line}"/>')

    def _rectangle(self, x: float, y: float, width: float, height: float, kind: str, radius: float = 4) -> None:
        values = zip(("x", "y", "width", "height", "rx"), (x, y, width, height, radius), strict=True)
        attributes = " ".join(f'{name}="{_number(value)}"' for name, value in values)
        self._elements.append(f'<rect class="{kind}" {attributes}/>')

    def _text(self, x: float, y: float, text: str, kind: str) -> None:
        self._elements.append(f'<text class="{kind}" x="{_number(x)}" y="{_number(y)}">{escape(text)}</text>')


def _number(value: float) -> str:
    return f"{round(value, 2):g}" if abs(value) < 1e5 else f"{value:.0f}"


def _count(number: int) -> str:
    """Returns a number with three digits: 8.78 M."""
    for factor, unit in ((10**9, " G"), (10**6, " M"), (10**3, " K")):
        if number >= 0.9995 * factor:
            return f"{float(f'{number / factor:.3g}'):g}{unit}"
    return str(number)
