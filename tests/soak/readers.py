"""The kinds of files that people hand over: a small valid one of each, how it is damaged, and who reads it."""

import contextlib
import functools
import io
import os
import random as random_module
import shutil
import sys
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.soak import mutations

CLASSES = ("ant", "bee", "cat")
SUFFIXES = (
    *[".keras", ".safetensors", ".pth", ".weights.h5", ".tflite", ".onnx", ".xml", ".bin", ".png", ".h5", ".txt"],
    "",
)
IMAGE_FORMATS = ("png", "jpg", "webp", "gif", "bmp", "tiff", "ppm", "jp2", "avif")
Files = dict[str, bytes]


class Kind(NamedTuple):
    """A kind of file.

    Args:
        make: Writes valid files into a folder.
        read: Reads them as a user would.
        weight: Share of the time. Defaults to 1.
        target: Name of the file that is damaged; None for any of them, a different one each time.
        fix: Changes the other files so that a reader reaches what was damaged, as an attacker would.
        writes: Name of a folder that the reader may write to. Defaults to None: it may not.
        seconds: Limit of a case. Defaults to 20.
        change: Puts lies into the content of one of the files. Defaults to what knows the formats.
        native: Whether a runtime in C++ reads it, whose crashes are counted apart. Defaults to False.
    """

    make: object
    read: object
    weight: float = 1
    target: str | None = None
    fix: object = None
    writes: str | None = None
    seconds: float = 20
    change: object = mutations.changed
    native: bool = False

    def case(self, files: Files, number: int, seed: int) -> Files:
        """Returns the files of a case: cut at every fiftieth of their length in turn with damaged at random."""
        random = random_module.Random(f"{seed}-{number}")
        changed = dict(files)
        name = self.target or random.choice(sorted(files))
        turn, is_odd = divmod(number, 2)
        if not is_odd and turn <= mutations.PARTS:
            changed[name] = mutations.cut(files[name], turn * 37 % (mutations.PARTS + 1))  # in a scattered order
        elif random.random() < 0.03 and "." in name:
            changed[name.split(".")[0] + random.choice(SUFFIXES)] = changed.pop(name)
        else:
            change = self.change if random.random() < 0.75 else mutations.damaged
            changed[name] = change(files[name], random)
        if self.fix is not None:
            self.fix(changed, random)
        return changed


# Makers


def make(folders):
    """Writes the valid files of each kind into its folder; only Python's errors are shown."""
    sys.stderr = os.fdopen(os.dup(2), "w")
    silence_libraries()
    made = {}
    for name, folder in folders.items():
        if made.setdefault(KINDS[name].make, folder) is not folder:  # two kinds of the same files
            shutil.copytree(made[KINDS[name].make], folder)
        else:
            folder.mkdir(parents=True)
            KINDS[name].make(folder)


def silence_libraries():
    """Sends what is printed to the process's outputs, also by libraries in C++, to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def warm_up():
    """Imports and builds what readers share, so that it does not count for the first case."""
    import onnxruntime  # noqa: F401
    import openvino  # noqa: F401  (reports its use, and writes a file for that)
    import tensorflow as tf  # noqa: F401
    import torch  # noqa: F401

    _shared_model()


def tiny_model(**arguments):
    """Returns a model as small as one can be."""
    from tests.helpers.exports import confident_model

    arguments = {"embed_dim": (8, 12), "num_heads": (2, 3), **arguments}
    return confident_model(num_classes=len(CLASSES), class_names=CLASSES, **arguments)


def _checkpoint(folder, name):
    import keras_crossvit as kc

    kc.save_checkpoint(tiny_model(), folder / name)


def _legacy_torch(folder):
    import torch

    import keras_crossvit as kc

    weights = {name: torch.tensor(array) for name, array in kc.state_dict(tiny_model()).items()}
    torch.save({"state_dict": weights, "epoch": 3}, folder / "model.pth", _use_new_zipfile_serialization=False)


def _export(folder, name):
    from tests.helpers.exports import write_export

    write_export(tiny_model(), folder / name)
    _image(folder, "image.png")


def _saved_model(folder):
    import keras_crossvit as kc

    kc.export(tiny_model(), folder / "model", format="saved_model")
    _image(folder, "image.png")


def _image(folder, name):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3)).astype("uint8")
    Image.fromarray(pixels).save(folder / name)


def write_class_folders(folder, classes=CLASSES, count=2):
    """Writes different images of each class."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 256, (24, 20, 3)).astype("uint8")
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def _class_folders_in(folder):
    write_class_folders(folder / "images", CLASSES[:2])


def _table(folder, name, text):
    write_class_folders(folder / "images", ["all"], 4)
    (folder / "images" / name).write_text(text)


def _shards(folder):
    from keras_crossvit.pipeline import prepare

    write_class_folders(folder / "images", CLASSES, 4)
    prepare(folder / "images", folder / "shards", validation_split=0.25)
    shutil.rmtree(folder / "images")
    for lock in folder.rglob(".lock"):
        lock.unlink()


def _run(folder):
    import keras_crossvit as kc
    from keras_crossvit.training import get_recipe

    write_class_folders(folder / "images", CLASSES, 3)
    recipe = get_recipe("finetune", epochs=1, batch_size=6, layer_decay=None, rand_augment_ops=0)
    kc.train(folder / "images", model=tiny_model(), output=folder / "run", recipe=recipe, verbose=False)
    kept = {"config.json", "best.keras"}
    for path in list((folder / "run").rglob("*")):
        if path.is_file() and path.name not in kept and path.parent.name != "resume":
            path.unlink()


def _recipe(folder):
    from keras_crossvit.training import get_recipe, recipe_toml

    (folder / "recipe.toml").write_text(recipe_toml(get_recipe("finetune")))


def _comparison(folder):
    import keras_crossvit as kc

    write_class_folders(folder / "images", CLASSES, 2)
    kc.save_checkpoint(tiny_model(), folder / "model.keras")
    kc.compare(folder / "model.keras", folder / "images", formats=["litert"], output=folder / "comparison")
    for path in (folder / "comparison").iterdir():
        if path.name in (".lock", "comparison.png", "comparison.md"):
            path.unlink()


def _words(folder):
    import dataclasses

    from keras_crossvit.pipeline import Augmentation
    from keras_crossvit.training import Recipe

    fields = [field.name for kind in (Recipe, Augmentation) for field in dataclasses.fields(kind)]
    (folder / "words").write_text("\0".join(fields))


# Readers, which run in a worker and share a model


@functools.cache
def _shared_model():
    return tiny_model()


def _load_either(folder):
    """Loads into a model that exists, with or without adapting, or as a published architecture that does not fit."""
    import keras_crossvit as kc

    path = _only(folder)
    match path.stat().st_size % 3:
        case 0:
            kc.load_checkpoint(_shared_model(), path)
        case 1:
            kc.load_checkpoint(_shared_model(), path, adapt=True)
        case 2:
            kc.load_model(path, variant="crossvit_tiny")


def _load_model(folder):
    import keras_crossvit as kc

    str(kc.load_model(_only(folder)))


def _classify(folder):
    import keras_crossvit as kc

    models = [each for each in folder.iterdir() if each.name not in ("image.png", "model.bin")]
    kc.classify(models[0] if models else folder / "model.bin", folder / "image.png")


def _preprocess(folder):
    import keras_crossvit as kc

    kc.preprocess(_only(folder), _shared_model())


def _open_dataset(folder):
    from keras_crossvit.pipeline import open_dataset

    dataset = open_dataset(folder / "images", max_unreadable=1)
    dataset.fingerprint()
    str(dataset.survey)


def _verify(folder):
    from keras_crossvit.pipeline import open_dataset

    _command("prepare", folder / "shards", "--verify")
    open_dataset(folder / "shards").fingerprint()


def _get_recipe(folder):
    from keras_crossvit.training import recipe_toml

    _command("train", "--print-recipe", "--recipe", _only(folder))
    from keras_crossvit.training import get_recipe

    recipe_toml(get_recipe(_only(folder)))


def _set_values(folder):
    words = (folder / "words").read_bytes().decode("utf-8", "replace").split("\0")
    _command("train", "--print-recipe", *words)


def _read_run(folder):
    import keras_crossvit as kc
    from keras_crossvit.training import get_recipe, recipe_toml

    recipe_toml(get_recipe(folder / "run"))
    kc.evaluate(folder / "run", folder / "images")


def _resume(folder):
    """Reads a state as a resumed run does, without the training."""
    from keras_crossvit.training.state import StateFolder

    StateFolder(folder / "run" / "resume").newest()


def _compare(folder):
    import keras_crossvit as kc

    str(kc.compare(folder / "model.keras", folder / "images", formats=["litert"], output=folder / "comparison"))


class MistakeError(Exception):
    """A command has told a mistake in one line."""


def _command(*words):
    from keras_crossvit.cli.main import main

    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            code = main([str(word) for word in words])
    except SystemExit as exit_:
        code = exit_.code
    if code:
        raise MistakeError(errors.getvalue().strip().splitlines()[-1])


def _only(folder):
    return next(folder.iterdir())


# Changes


def _changed_words(content, random):
    fields = content.decode().split("\0")
    chosen = (f"{random.choice(fields)}={mutations.word(random)}" for _ in range(random.choice([1, 1, 2])))
    words = [word for each in chosen for word in ("--set", each.replace("\0", ""))]
    return "\0".join(words).encode("utf-8", "surrogatepass")


def _other_names(files, random):
    """Gives files and folders names that a file system takes and nobody expects."""
    for _ in range(random.choice([0, 1, 2])):
        name = random.choice(sorted(files))
        parts = name.split("/")
        at = random.randrange(1, len(parts))
        other = random.choice(mutations.TEXTS).replace("\0", "").replace("/", "")[: random.choice([20, 60])]
        parts[at] = other.encode("utf-8", "replace").decode() or "x"
        if len(parts[at].encode()) < 250 and parts[at] not in (".", ".."):
            files["/".join(parts)] = files.pop(name)


def _right_hashes(files, random):
    """Writes the hashes and sizes of damaged shards into the manifest, as whoever damages them could."""
    import hashlib
    import json

    if random.random() < 0.3:
        return
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        manifest = json.loads(files["shards/manifest.json"])
        for split, shards in manifest["splits"].items():
            manifest["labels"][split] = hashlib.sha256(files[f"shards/{split}-labels.npy"]).hexdigest()
            for shard in shards:
                content = files[f"shards/{shard['file']}"]
                shard |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        files["shards/manifest.json"] = json.dumps(manifest).encode()


def _forged_digest(files, random):
    """Takes the SHA-256 out of a damaged file, as whoever damages it on purpose can."""
    for name, content in files.items():
        files[name] = content.replace(b"keras_crossvit_sha256", b"keras_crossvit_forged")


def _of(make, *arguments):
    return lambda folder: make(folder, *arguments)


_LABELS = "file,label\nall/0.png,ant\nall/1.png,ant\nall/2.png,bee\nall/3.png,bee\n"
_MULTI_LABELS = "file,ant,bee,split\nall/0.png,0,1,train\nall/1.png,1,0,train\nall/2.png,1,1,val\nall/3.png,0,0,val\n"
_METADATA = "file_name,label\nall/0.png,ant\nall/1.png,ant\nall/2.png,bee\nall/3.png,bee\n"
_LINES = "".join(f'{{"file_name": "all/{i}.png", "label": {["0", "[1, 2]"][i % 2]}}}\n' for i in range(4))
_TABLES = {
    "labels.csv": ("labels.csv", _LABELS),
    "labels.csv of several classes": ("labels.csv", _MULTI_LABELS),
    "metadata.csv": ("metadata.csv", _METADATA),
    "metadata.jsonl": ("metadata.jsonl", _LINES),
}
_STATE, _COMPARISON = "run/resume/epoch-000001-batch-00000000.safetensors", "comparison/comparison.json"

KINDS = {
    **{f"image .{each}": Kind(_of(_image, f"image.{each}"), _preprocess, weight=0.7) for each in IMAGE_FORMATS},
    "folder of images": Kind(_class_folders_in, _open_dataset, fix=_other_names),
    **{
        kind: Kind(_of(_table, name, text), _open_dataset, target=f"images/{name}")
        for kind, (name, text) in _TABLES.items()
    },
    "recipe in TOML": Kind(_recipe, _get_recipe),
    "values of --set": Kind(_words, _set_values, change=_changed_words),
    "shards": Kind(_shards, _verify, 2, fix=_right_hashes),
    "checkpoint .safetensors": Kind(_of(_checkpoint, "model.safetensors"), _load_either, 3),
    "model .safetensors": Kind(_of(_checkpoint, "model.safetensors"), _load_model, 2),
    "checkpoint .pth": Kind(_of(_checkpoint, "model.pth"), _load_either, 2),
    "checkpoint .pth, not a zip file": Kind(_legacy_torch, _load_either),
    "checkpoint .weights.h5": Kind(_of(_checkpoint, "model.weights.h5"), _load_either, 2),
    "model .keras": Kind(_of(_checkpoint, "model.keras"), _load_model, 3),
    "run folder": Kind(_run, _read_run, 3),
    "state of a run": Kind(_run, _resume, target=_STATE),
    "comparison": Kind(_comparison, _compare, 3, target=_COMPARISON, writes="comparison", seconds=200),
    "LiteRT": Kind(_of(_export, "model.tflite"), _classify, 2, native=True),
    "LiteRT, digest forged": Kind(_of(_export, "model.tflite"), _classify, 2, fix=_forged_digest, native=True),
    "ONNX": Kind(_of(_export, "model.onnx"), _classify, native=True),
    "ONNX, digest forged": Kind(_of(_export, "model.onnx"), _classify, fix=_forged_digest, native=True),
    "OpenVINO": Kind(_of(_export, "model.xml"), _classify, 2, native=True),
    "SavedModel": Kind(_saved_model, _classify, 4, native=True),
}
