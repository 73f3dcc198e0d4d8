"""Writes docs/api.md from `__all__` and docstrings: `python docs/generate_api.py`."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import keras_crossvit

PAGE = Path(__file__).with_name("api.md")
SUBPACKAGES = (
    "layers",
    "checkpoints",
    "pipeline",
    "training",
    "evaluation",
    "exporting",
    "runtimes",
    "serving",
    "demo",
)
INTRODUCTION = """\
# API reference

Everything public, generated from the docstrings by `docs/generate_api.py`. `help(name)` has the arguments, shapes,
defaults and errors. `kc` is `keras_crossvit`; `keras-crossvit COMMAND --help` describes the commands.
"""


def generate() -> str:
    """Returns the text of the page."""
    sections = [INTRODUCTION, _section("kc", keras_crossvit)]
    for name in SUBPACKAGES:
        module = importlib.import_module(f"keras_crossvit.{name}")
        if getattr(module, "__all__", ()):
            sections.append(_section(f"keras_crossvit.{name}", module))
    return "\n".join(sections)


def _section(label: str, module: Any) -> str:
    lines = [f"## {label}", "", _first_paragraph(module), ""]
    for name in module.__all__:
        value = getattr(module, name)
        if name == "__version__" or inspect.ismodule(value):
            continue
        lines += [f"### {label}.{name}", ""]
        if callable(value):
            lines += ["```text", _signature(name, value), "```", ""]
        lines += [_first_paragraph(value) if callable(value) else _constant(value), ""]
    return "\n".join(lines)


def _signature(name: str, value: Any) -> str:
    text = re.sub(r"'([^']*)'", r"\1", f"{name}{inspect.signature(value)}") if callable(value) else name
    if len(text) <= 100:
        return text
    parameters = [str(each).replace("'", "") for each in inspect.signature(value).parameters.values()]
    kinds = [each.kind for each in inspect.signature(value).parameters.values()]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parameters.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returns = text[text.rindex(") -> ") :] if ") -> " in text else ")"
    return "\n".join([f"{name}(", *(f"    {each}," for each in parameters), returns])


def _constant(value: Any) -> str:
    return f"A constant: {', '.join(f'`{each}`' for each in value)}." if isinstance(value, dict | tuple | list) else ""


def _first_paragraph(value: Any) -> str:
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())


if __name__ == "__main__":
    PAGE.write_text(generate())
