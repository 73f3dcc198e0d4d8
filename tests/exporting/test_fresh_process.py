"""Processes that are started import nothing from the folder in which someone works."""

from tests.helpers.processes import run_python

PROGRAM = """
import sys
import numpy as np
from benchmarks import import_runner
from keras_crossvit.models.config import BRANCHES
from keras_crossvit.exporting.saved_model_writer import run_in_fresh_process
from keras_crossvit.training.last_words import last_words

images = {f"{name}_image": np.zeros((1, side, side, 3), "float32") for name, side in zip(BRANCHES, (48, 32))}
print(run_in_fresh_process(sys.argv[1], {"serving_default": images})["serving_default"]["logits"].shape)
import_runner.prepare({"options": {"imports": "json, numpy, tensorflow"}}).step()
with last_words() as settle:
    settle("")
"""


def test_modules_in_the_current_folder_are_not_taken(letters, tmp_path):
    _, exported = letters
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in ("json", "numpy", "tensorflow", "keras", "keras_crossvit", "encodings", "site", "zipfile"):
        (hostile / f"{name}.py").write_text("import pathlib; pathlib.Path('ran').touch(); raise SystemExit(1)")
    before = sorted(hostile.iterdir())
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run_python(tmp_path / "program.py", exported.path.absolute(), cwd=hostile)
    assert "(1, 5)" in done.stdout
    assert sorted(hostile.iterdir()) == before
