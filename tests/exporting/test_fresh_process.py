import pickle

import numpy as np
import pytest

from keras_crossvit.exporting.fresh_process import run_file, run_saved_model
from keras_crossvit.exporting.serving_requests import bytes_of_no_image, drawn_image, encoded
from tests.helpers.backends import call
from tests.helpers.models import images
from tests.helpers.processes import run_python

PROGRAM = """
import pickle
import sys
from pathlib import Path

from keras_crossvit.exporting.fresh_process import run_saved_model

path, requests, outputs = map(Path, sys.argv[1:])
outputs.write_bytes(pickle.dumps(run_saved_model(path, pickle.loads(requests.read_bytes()))))
"""


def test_outputs_are_the_same_without_keras_and_without_modules_of_the_current_folder(letters, tmp_path):
    model, exported = letters
    inputs = images(model, batch=3, seed=4)
    files = [encoded(drawn_image(), "JPEG"), *bytes_of_no_image()]
    requests = {
        "serving_default": {"small_patch_image": inputs[0], "large_patch_image": inputs[1]},
        "image_bytes": {"image_bytes": files},
    }
    (tmp_path / "requests").write_bytes(pickle.dumps(requests))
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in ("pickle", "numpy", "tensorflow", "keras", "keras_crossvit", "encodings", "site", "zipfile"):
        (hostile / f"{name}.py").write_text("import pathlib; pathlib.Path('ran').touch(); raise SystemExit(1)")
    before = sorted(hostile.iterdir())
    (tmp_path / "program.py").write_text(PROGRAM)
    paths = (tmp_path / "program.py", exported.path.absolute(), tmp_path / "requests", tmp_path / "outputs")
    run_python(*paths, cwd=hostile)
    assert sorted(hostile.iterdir()) == before
    outputs = pickle.loads((tmp_path / "outputs").read_bytes())
    logits = call(model, inputs)
    np.testing.assert_allclose(outputs["serving_default"]["logits"], logits, rtol=0, atol=1e-5)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["serving_default"]["probabilities"], expected, rtol=0, atol=1e-5)
    assert outputs["image_bytes"]["valid"].tolist() == [True, False, False, False, False]
    assert set(outputs["image_bytes"]["class_names"][0]) == {b"a", b"b", b"c", b"d", b"e"}


@pytest.mark.parametrize(
    ("run", "reason"), [(run_saved_model, "SavedModel file does not exist"), (run_file, "without a SavedModel")]
)
def test_failing_process_shows_its_last_line_and_keeps_the_rest(run, reason, tmp_path):
    with pytest.raises(RuntimeError, match=f"'{tmp_path}'.*{reason}") as raised:
        run(tmp_path, {})
    assert "\n" not in str(raised.value)
    assert "Traceback" in raised.value.__notes__[0]
