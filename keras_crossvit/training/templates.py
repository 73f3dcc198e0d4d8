"""The templates of a run's report and of its model card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_crossvit._internal.optional import require_library
from keras_crossvit.evaluation.results import format_value


def open_template(name: str, *, autoescape: bool, safe_text: Callable[[str], str], **filters: Any) -> Any:
    """Returns a template of this folder, which shows texts as `safe_text` makes them, and fractions by `percent`."""
    jinja2 = require_library("jinja2", "train")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: safe_text(value) if type(value) is str else value,
    )
    environment.filters |= {"percent": format_value, **filters}
    return environment.get_template(name)
