import numpy as np
import pytest

from keras_crossvit.exporting.fresh_process import run_file, run_saved_model
from tests.helpers.models import TINY
from tests.helpers.processes import run_python

REQUEST = {
    "serving_default": {
        name: np.zeros((1, side, side, 3), "float32")
        for name, side in zip(("small_patch_image", "large_patch_image"), TINY["img_size"], strict=True)
    }
}
PROGRAM = """
import sys
from keras_crossvit.exporting.fresh_process import run_saved_model
from tests.exporting.test_fresh_process import REQUEST

print(run_saved_model(sys.argv[1], REQUEST)["serving_default"]["logits"].shape)
"""


def test_modules_in_the_current_folder_are_not_imported(letters, tmp_path):
    _, exported = letters
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in ("pickle", "numpy", "tensorflow", "keras", "keras_crossvit", "encodings", "site", "zipfile"):
        (hostile / f"{name}.py").write_text("import pathlib; pathlib.Path('ran').touch(); raise SystemExit(1)")
    before = sorted(hostile.iterdir())
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run_python(tmp_path / "program.py", exported.path.absolute(), cwd=hostile)
    assert "(1, 5)" in done.stdout
    assert sorted(hostile.iterdir()) == before


@pytest.mark.parametrize(
    ("run", "inputs", "reason"),
    [
        (run_saved_model, REQUEST, "SavedModel file does not exist"),
        (run_file, REQUEST["serving_default"], "without a SavedModel"),
    ],
)
def test_failing_process_shows_its_last_line_and_keeps_the_rest(run, inputs, reason, tmp_path):
    with pytest.raises(RuntimeError, match=f"'{tmp_path}'.*{reason}") as raised:
        run(tmp_path, inputs)
    assert "\n" not in str(raised.value)
    assert "Traceback" in raised.value.__notes__[0]
