"""Writes docs/api.md from `__all__` and docstrings: `python docs/generate_api.py`."""

from __future__ import annotations

import importlib
import inspect
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
        if callable(value) and not (isinstance(value, type) and issubclass(value, BaseException)):
            lines += ["```text", _signature(name, value), "```", ""]
        lines += [_first_paragraph(value) if callable(value) else _constant(value), ""]
    return "\n".join(lines)


def _signature(name: str, value: Any) -> str:
    signature = inspect.signature(value)
    parameters, star = [], False
    for each in signature.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not star:
            parameters.append("*")
        star |= each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        prefix = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        annotation = "" if each.annotation is each.empty else f": {_annotation(each.annotation)}"
        default = "" if each.default is each.empty else f" = {each.default!r}"
        parameters.append(f"{prefix}{each.name}{annotation}{default}")
    is_function = not isinstance(value, type) and signature.return_annotation is not signature.empty
    returns = f" -> {_annotation(signature.return_annotation)}" if is_function else ""
    line = f"{name}({', '.join(parameters)}){returns}"
    return (
        line if len(line) <= 100 else "\n".join([f"{name}(", *(f"    {each}," for each in parameters), f"){returns}"])
    )


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _constant(value: Any) -> str:
    return f"A constant: {', '.join(f'`{each}`' for each in value)}." if isinstance(value, dict | tuple | list) else ""


def _first_paragraph(value: Any) -> str:
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())


if __name__ == "__main__":
    PAGE.write_text(generate())
