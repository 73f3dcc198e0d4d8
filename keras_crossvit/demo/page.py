"""The folder of a page: its own files, LiteRT.js, the model, and what is to be known of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import resources
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.errors import ExistingFileError, MissingFileError
from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.model_paths import CHECKPOINT_SUFFIXES, resolve_model_path, suffix_of
from keras_crossvit.demo.litertjs import find_litertjs, unpack_litertjs
from keras_crossvit.demo.page_data import page_facts
from keras_crossvit.runtimes import load_runtime

_LITERT_SUFFIX = ".tflite"


def write_demo(model: str | PathLike, folder: str | PathLike, *, litertjs: str | PathLike | None = None) -> Path:
    """Writes a page on which people try a model in their browser, whole or not at all.

    Any static server can serve the folder; the page asks no other host for anything, and what people show it stays
    with them. For the digits of quickstart it has a canvas to draw on, for other models it takes pictures.

    Args:
        model: A `.tflite` file of `export` for one picture at once, or what `load_model` reads, which is
            exported in float32.
        folder: The folder to write, which must not be there yet.
        litertjs: Folder in which `npm pack` has left the packages of LiteRT.js. Defaults to None: they are taken from
            the cache or fetched from npm's registry, see `find_litertjs`.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder is there already.
        FileNotFoundError: there is no such model, or no LiteRT.js in the given folder.
        ModuleNotFoundError: a library is missing; the message says how to install it.
        ValueError: the model's file is broken, or no page can be made for it.
        ConnectionError: LiteRT.js cannot be fetched.
        RuntimeError: the model's own file cannot be exported, or its export disagrees with it.
        OSError: the place cannot be written.
    """
    model, folder = resolve_model_path(model), Path(folder)
    if os.path.lexists(folder):
        raise ExistingFileError(f"'{folder}' is there already; choose another folder, or remove it.")
    if not model.exists():
        raise MissingFileError(f"There is no model '{model}'; give the path of a file.")
    tarballs = find_litertjs(litertjs)
    with _as_litert(model) as file, atomic_write(folder) as unfinished:
        facts = page_facts(load_runtime(file, threads=1, quiet=True))
        unfinished.mkdir()
        for each in resources.files("keras_crossvit.demo").joinpath("page").iterdir():
            (unfinished / each.name).write_bytes(each.read_bytes())
        unpack_litertjs(tarballs, unfinished / "litertjs")
        shutil.copyfile(file, unfinished / "model.tflite")
        (unfinished / "model.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    return folder


@contextlib.contextmanager
def _as_litert(model: Path) -> Iterator[Path]:
    """The file itself, or a LiteRT file made of it that is gone afterwards."""
    if suffix_of(model, (_LITERT_SUFFIX, *CHECKPOINT_SUFFIXES)) == _LITERT_SUFFIX:
        yield model
        return
    from keras_crossvit.exporting import export
    from keras_crossvit.models.loading import load_model

    with tempfile.TemporaryDirectory() as shelter:
        file = Path(shelter) / f"model{_LITERT_SUFFIX}"
        export(load_model(model), file)
        yield file
