"""A folder of pictures of explanations, which is filled over several runs, and its page."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from PIL import Image

from keras_crossvit._internal.errors import ExistingFileError
from keras_crossvit._internal.files import UNFINISHED, atomic_write, remove_unfinished, write_text
from keras_crossvit._internal.sheets import draw_sheet
from keras_crossvit._internal.stored_json import read_json
from keras_crossvit._internal.user_text import json_text, one_line, shown_name
from keras_crossvit.explaining.explanation import Explanation

_PAGE, _SHEET, _SETTINGS = "explanations.html", "contact_sheet.jpg", "settings.json"
_SHEET_IMAGES, _SHEET_COLUMNS, _SHEET_CELL = 60, 3, (420, 420)  # of a contact sheet: most images, and pixels of each
_ELSEWHERE = "choose another folder for the output, or remove it"
_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Explanations</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem }}
img {{ max-width: 100%; border: 1px solid #ccc }}
figure {{ margin: 2rem 0 }}
</style>
<h1>Explanations</h1>
<p>{model}, by {method}. Orange speaks for the class, violet against it. Gray parts were cut away before the model saw
the image. Each image has its own scale of colors.</p>
"""


class Gallery:
    """A folder with a picture for each image. Pictures of images that have not changed are kept.

    Args:
        folder: New or empty folder, or one that was begun with the same settings.
        settings: What the pictures depend on beside their images, as JSON values.

    Raises:
        FileExistsError: the folder has other files, or explanations with other settings.
    """

    def __init__(self, folder: str | PathLike[str], settings: Mapping[str, Any]) -> None:
        self._folder, self._settings = Path(folder), settings
        file = self._folder / _SETTINGS
        if file.is_file():
            found = read_json(file, {str: Any}, _ELSEWHERE)
            for name, value in settings.items():
                if found.get(name) != value:
                    raise ExistingFileError(
                        f"'{folder}' has explanations with another {name} ({str(found.get(name))[:80]}, now "
                        f"{str(value)[:80]}); {_ELSEWHERE}."
                    )
        elif self._folder.exists() and (not self._folder.is_dir() or not self._is_empty()):
            raise ExistingFileError(f"'{folder}' already exists; {_ELSEWHERE}.")
        remove_unfinished(self._folder)

    def _is_empty(self) -> bool:
        """Returns whether the folder has nothing, or only what a killed process has begun."""
        return all(each.name.startswith(UNFINISHED) for each in self._folder.iterdir())

    def has(self, path: str) -> bool:
        """Returns whether there is a picture of an image as its file is now."""
        return Path(path).exists() and self._picture_of(path).is_file()

    def write(self, path: str, explanation: Explanation) -> None:
        """Writes the picture of an image."""
        if not (self._folder / _SETTINGS).exists():
            write_text(self._folder / _SETTINGS, json_text(self._settings, indent=2))
        with atomic_write(self._picture_of(path)) as unfinished:
            explanation.plot().save(unfinished, quality=90, comment=explanation.title)

    def write_page(self, model: str, paths: Iterable[str]) -> Path:
        """Writes the page of those images that have pictures, and returns its path; of several also a contact sheet."""
        shown = list(filter(self.has, paths))
        if len(shown) > 1:
            draw_sheet(self._folder / _SHEET, *self._cells(shown[:_SHEET_IMAGES]), columns=_SHEET_COLUMNS)
        with atomic_write(self._folder / _PAGE) as unfinished, unfinished.open("w", encoding="utf-8") as page:
            page.write(_HEAD.format(model=html.escape(one_line(model)), method=self._settings["method"]))
            page.writelines(_figure(path, self._picture_of(path)) for path in shown)
            page.write("</html>\n")
        return self._folder / _PAGE

    def _cells(self, paths: Iterable[str]) -> tuple[list[Image.Image], list[str]]:
        """Returns the pictures of images at the size of a contact sheet, and the names of their files."""
        cells, names = list[Image.Image](), list[str]()
        for path in paths:
            with Image.open(self._picture_of(path)) as picture:
                picture.thumbnail(_SHEET_CELL)
                cells.append(picture.copy())
            names.append(shown_name(Path(path).name))
        return cells, names

    def _picture_of(self, path: str) -> Path:
        """Returns the path of an image's picture, which is another once the image's file changes."""
        status = Path(path).stat()
        identity = f"{Path(path).absolute()} {status.st_size} {status.st_mtime_ns}"
        stem = re.sub(r"[^\w-]", "_", Path(path).stem, flags=re.ASCII)[:40]
        return self._folder / f"{stem}-{hashlib.sha256(os.fsencode(identity)).hexdigest()[:12]}.jpg"


def _figure(path: str, picture: Path) -> str:
    with Image.open(picture) as image:
        title = image.info["comment"].decode()
    source = f"data:image/jpeg;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    name, title = (html.escape(one_line(each)) for each in (path, title))
    return f'<figure><figcaption>{name}</figcaption><img src="{source}" alt="{title}"></figure>\n'
