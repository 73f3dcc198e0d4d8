"""Kills commands at random moments: files are old or new, and the same command continues and ends as if undisturbed.

`python -m tests.soak.kills OUTPUT` is the training that is killed.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from keras_crossvit._internal.files import UNFINISHED
from tests.helpers.processes import PROJECT
from tests.soak import readers

KILLS = 50
LONGEST_SECONDS = 600  # of a command that is not killed
# Words of the command line by command, in a folder with `images` and `model.keras`; all write to `out`.
COMMANDS = {
    "train": None,
    "prepare": "prepare images out --validation-split 0.25",
    "export": "export model.keras out/model.tflite --overwrite",
    "convert": "convert model.keras out/model.safetensors",
    "compare": "compare model.keras --data images --formats litert --output out",
    "explain": "explain model.keras images --output out",
}
REPEATABLE = ("prepare",)  # writes the same bytes every time; safetensors writes its metadata in any order
LEAVES_UNFINISHED = ("export", "convert")  # what a killed one leaves is of another name and stays


def kill_commands(rows, seconds, seed, failures, workers, log):
    """Kills 50 commands, or as many as there is time for, and counts what became of them in `rows`."""
    end, order = time.monotonic() + seconds, iter(range(KILLS))
    lock, stop = threading.Lock(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        base = Path(folder, "base")
        log("kill -9: writes images and a model, and runs each command once")
        _make_base(base)
        whole = {}

        def work():
            while time.monotonic() < end and not stop.is_set():
                with lock:
                    number = next(order, None)
                if number is None:
                    return
                name = list(COMMANDS)[number % len(COMMANDS)]
                try:
                    if name not in whole:
                        whole[name] = _whole_run(name, base, Path(folder, f"whole-{name}-{number}"))
                    problem = _kill_once(
                        name, base, Path(folder, str(number)), whole[name], f"{seed}-{number}", rows[name]
                    )
                except Exception as error:
                    problem = f"{type(error).__name__}: {error}"
                if problem:
                    rows[name]["failed"] += 1
                    if Path(folder, str(number)).exists():
                        saved = failures / f"killed-{name}-{number}"
                        shutil.copytree(Path(folder, str(number)), saved, dirs_exist_ok=True)
                    (failures / f"killed-{name}-{number}.txt").write_text(problem)
                log(f"kill {number + 1} of {KILLS}, {name}: {problem or 'continued and ended'}")
                shutil.rmtree(Path(folder, str(number)), ignore_errors=True)

        threads = [threading.Thread(target=work) for _ in range(workers)]
        try:
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        finally:
            stop.set()
            for each in threads:
                each.join()


def _make_base(folder):
    command = "import sys; from tests.soak import kills; kills.write_base(sys.argv[1])"
    subprocess.run([sys.executable, "-c", command, str(folder)], check=True, cwd=PROJECT, stderr=subprocess.DEVNULL)


def write_base(folder):
    """Writes the images and the model that commands read."""
    import keras_crossvit as kc

    readers.write_class_folders(Path(folder) / "images", count=6)
    kc.save_checkpoint(readers.tiny_model(), Path(folder) / "model.keras")


def _started(name, folder):
    words = ["-m", "tests.soak.kills", "out"] if name == "train" else ["-m", "keras_crossvit", *COMMANDS[name].split()]
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    with (folder / "printed").open("ab") as printed:
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=environment,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )


def _whole_run(name, base, folder):
    """Runs a command without killing it; returns its folder and time."""
    shutil.copytree(base, folder)
    start = time.monotonic()
    if _started(name, folder).wait(LONGEST_SECONDS):
        raise RuntimeError(f"{name} failed without being killed: {(folder / 'printed').read_text()[-500:]}")
    return folder / "out", time.monotonic() - start


def _kill_once(name, base, folder, whole, seed, row):
    """Kills a command, looks at its files and runs it again; returns what is wrong, or ""."""
    expected, seconds = whole
    shutil.copytree(base, folder)
    if name in ("export", "convert"):  # an old file in its place, which works
        shutil.copytree(expected, folder / "out")
        if name == "convert":
            next((folder / "out").iterdir()).write_bytes(b"old")
    before = _files(folder / "out")
    process = _started(name, folder)
    moment = seconds * random.Random(seed).uniform(0.25, 1.0)
    try:
        process.wait(moment)
        row["ended first"] += 1
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        row["killed"] += 1
    for path, content in _files(folder / "out").items():
        if content != before.get(path) and (problem := _problem(folder / "out" / path)):
            return f"after {moment:.1f} s, '{path}' {problem}"
        if name in REPEATABLE and content not in (before.get(path), _files(expected).get(path)):
            return f"after {moment:.1f} s, '{path}' is neither old nor new"
    if _started(name, folder).wait(LONGEST_SECONDS):
        return f"killed after {moment:.1f} s, it does not continue: {(folder / 'printed').read_text()[-500:]}"
    return _difference(name, folder / "out", expected)


def _files(folder):
    """Contents of the files that a command has written, by their paths; not locks and unfinished ones."""
    return {
        str(each.relative_to(folder)): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file() and each.name != ".lock" and UNFINISHED not in str(each)
    }


def _problem(path):
    """Returns why a file is not a whole one, or ""."""
    try:
        match path.suffix:
            case ".json":
                json.loads(path.read_text())
            case ".keras":
                with zipfile.ZipFile(path) as archive:
                    return f"has a damaged {bad}" if (bad := archive.testzip()) else ""
            case ".safetensors":
                load_file(path)
            case ".npy":
                np.load(path)
            case ".jpg" | ".png":
                with Image.open(path) as image:
                    image.load()
            case ".html" if not path.read_text().rstrip().endswith("</html>"):
                return "is cut"
            case ".csv" if not path.read_text().endswith("\n"):
                return "is cut"
            case ".tflite":
                from ai_edge_litert.interpreter import Interpreter

                Interpreter(str(path)).allocate_tensors()
    except Exception as error:
        return f"cannot be read: {type(error).__name__}: {error}"
    return ""


def _difference(name, folder, expected):
    """Returns in what the end differs from that of a run that was not killed, or ""."""
    found, whole = _files(folder), _files(expected)
    if name == "explain":  # names depend on the times of the images' files
        return "" if len(found) == len(whole) else f"has {len(found)} files, not {len(whole)}"
    if name == "train":
        found, whole = ({path for path in each if not path.startswith("tensorboard")} for each in (found, whole))
    if missing := set(whole) ^ set(found):
        return f"files differ: {sorted(missing)[:5]}"
    if name in REPEATABLE and found != whole:
        return f"contents differ: {[path for path in whole if found[path] != whole[path]][:5]}"
    if name not in LEAVES_UNFINISHED and (left := [str(each) for each in folder.rglob(f"{UNFINISHED}*")]):
        return f"unfinished files are left: {left[:3]}"
    if name in ("train", "convert"):
        last = max(path for path in whole if path.endswith(".safetensors"))
        mine, theirs = (load_file(each / last) for each in (folder, expected))
        if differing := [key for key in theirs if not np.array_equal(mine.get(key), theirs[key], equal_nan=True)]:
            return f"'{last}' is not bit-identical: {differing[:3]}"
    return ""


def _train(output):
    import keras

    import keras_crossvit as kc
    from keras_crossvit.training import get_recipe

    keras.utils.set_random_seed(0)
    recipe = get_recipe("finetune", epochs=3, batch_size=6, layer_decay=None)
    model = readers.tiny_model(drop_path_rate=0.2)
    kc.train("images", model=model, output=output, recipe=recipe, checkpoint_every="1steps", verbose=False)


if __name__ == "__main__":
    _train(sys.argv[1])
