"""Text of strangers, such as names of classes, files and folders, made safe for where it is shown or written.

For a terminal, log, text file or drawing: `one_line`, `shown_name` or, for several lines, `printable`. For a CSV
table: `csv_cell`. For JSON and YAML: `json_text`. For Markdown: `markdown_text`. HTML is escaped by Jinja, whose
`finalize` is `printable`. `save_figure` draws without mathtext. Names in URLs and configuration files of servers are
those of `require_served_name` only.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

_JOINERS = "\u200c\u200d"  # some scripts and emoji need them
# Spreadsheets run a cell that starts with one of these (also in full width). Where a comma is the decimal separator,
# they also split cells at semicolons.
_FORMULA = re.compile("(^|;)(?=\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20])")
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>|~&!:@#$]")  # a backslash takes their meaning


def one_line(text: object) -> str:
    """Returns a text as one line without hidden effects.

    Control characters, line breaks, direction marks and bytes that are not UTF-8 become escapes.
    """
    text = str(text)
    return text if text.isprintable() else "".join(map(_escaped, text))


def printable(text: str) -> str:
    """Returns a text of several lines as `one_line` does, but keeps its line feeds."""
    return "\n".join(map(one_line, text.split("\n")))


def shown_name(name: str, length: int = 32) -> str:
    """Returns a user's name as one printable line of at most `length` characters, shortened in the middle."""
    text = one_line(name)
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def csv_cell(value: Any) -> Any:
    """Returns a cell of a CSV table: a text on one line, with `'` before what a spreadsheet would run as a formula."""
    return _FORMULA.sub(r"\1'", one_line(value)) if isinstance(value, str) else value


def markdown_text(text: object) -> str:
    """Returns a text on one line that Markdown shows as it is, also in a table."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))


def json_text(value: Any, **options: Any) -> str:
    """Returns JSON, which YAML reads too, of printable characters only; escapes decode to the same text."""
    text = json.dumps(value, ensure_ascii=False, **options)
    return "".join(each if each == "\n" or _is_shown(each) else json.dumps(each)[1:-1] for each in text)


def utf_8(text: str) -> str:
    """Returns a text that can be stored: bytes of a path that are not UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs" or character in _JOINERS


def _escaped(character: str) -> str:
    return character if _is_shown(character) else character.encode("unicode_escape").decode()
