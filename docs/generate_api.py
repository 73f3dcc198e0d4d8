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
    "explaining",
    "exporting",
    "comparing",
    "runtimes",
    "serving",
    "demo",
)
ENTRIES = ("Args:", "Raises:", "Attributes:")  # sections of docstrings that list names
INTRODUCTION = """\
# API reference

Everything public, generated from the docstrings by `docs/generate_api.py`. `kc` is `keras_crossvit`. [Command
line](cli.md) has the commands.
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
    lines = [f"## {label}", "", _documentation(module), ""]
    for name in module.__all__:
        value = getattr(module, name)
        if name == "__version__" or inspect.ismodule(value):
            continue
        lines += [f"### {label}.{name}", ""]
        if callable(value) and not (isinstance(value, type) and issubclass(value, BaseException)):
            lines += ["```text", _signature(name, value), "```", ""]
        lines += [_documentation(value) if callable(value) else _constant(value), ""]
        if members := _members(value):
            lines += ["**Methods and properties**", "", *members, ""]
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


def _documentation(value: Any) -> str:
    """Returns a docstring as Markdown: its sections have a bold title, and entries such as arguments become a list."""
    lines, section = [], ""
    for line in (inspect.getdoc(value) or "").split("\n"):
        if re.fullmatch(r"[A-Z][a-z]+:", line):
            section = line
            lines += [f"**{line.removesuffix(':')}**", ""]
            continue
        section = "" if line and not line.startswith(" ") else section
        if section:
            line = line.removeprefix("    ")
        if entry := section in ENTRIES and re.match(r"([*\w]+): ", line):
            line = f"- `{entry[1]}`: {line[entry.end() :]}"
        # The tests run blocks of Python in documents, and docstrings show parts of programs.
        lines.append(re.sub(r"^```python$", "```py", line.removeprefix("  ") if section in ENTRIES else line))
    return "\n".join(lines)


def _members(value: Any) -> list[str]:
    """Lists the methods and properties that a class documents itself."""
    lines = []
    for name, member in vars(value).items() if isinstance(value, type) else ():
        function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
        if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        call = "" if isinstance(member, property) else "(...)"
        lines.append(f"- `.{name}{call}`: {' '.join(inspect.getdoc(function).split(chr(10) * 2)[0].split())}")
    return lines


if __name__ == "__main__":
    PAGE.write_text(generate())
