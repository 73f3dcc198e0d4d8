"""Figures of matplotlib: made without a display, drawn with literal text, written atomically."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.optional import require_library
from keras_crossvit._internal.user_text import shown_name

_FONTS_OF_MANY_SCRIPTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Arial Unicode MS", "Microsoft YaHei", "PingFang SC", "Hiragino Sans"),
    *("WenQuanYi Zen Hei", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans Hebrew", "Noto Sans Thai"),
)


def try_to_draw(draw: Callable[..., None], path: str | PathLike, *arguments: Any, **keywords: Any) -> dict[str, str]:
    """Calls `draw(path, ...)`; a plot that fails must not cost the results.

    Returns:
        Empty; or, if drawing failed, the file name and the reason. An older file is then removed.
    """
    try:
        draw(path, *arguments, **keywords)
    except Exception as error:  # fonts and matplotlib may raise anything
        with contextlib.suppress(OSError):
            Path(path).unlink(missing_ok=True)
        reason = next(iter(str(error).strip().splitlines()), "")
        return {Path(path).name: shown_name(f"{type(error).__name__}: {reason}", 200)}
    return {}


def new_figure(rows: int, columns: int, size: tuple[float, float], **subplots: Any) -> tuple[Any, Any]:
    """Returns a matplotlib figure and its axes. Without pyplot, so no display is needed and no global state remains."""
    figure = require_library("matplotlib.figure", "train").Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, **subplots)


def save_figure(figure: Any, path: str | PathLike, *, dpi: int = 110) -> None:
    """Writes a figure as a PNG, atomically. Text is literal: a `$` in a class name starts no formula.

    Characters that no installed font has become boxes.
    """
    text = require_library("matplotlib.text", "train").Text
    installed = set(require_library("matplotlib.font_manager", "train").get_font_names())
    fonts = ["DejaVu Sans", *(font for font in _FONTS_OF_MANY_SCRIPTS if font in installed)]
    for label in figure.findobj(text):
        label.set(fontfamily=fonts, parse_math=False, usetex=False)
    with atomic_write(path) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(unfinished, dpi=dpi, format="png")
