import numpy as np
import pytest

from keras_crossvit.exporting.fresh_process import run_file, run_saved_model
from keras_crossvit.exporting.serving_requests import bytes_of_no_image, drawn_image, encoded
from tests.helpers.backends import call
from tests.helpers.models import images


def test_outputs_are_the_same_without_keras_and_without_modules_of_the_current_folder(letters, tmp_path, monkeypatch):
    model, exported = letters
    inputs = images(model, batch=3, seed=4)
    files = [encoded(drawn_image(), "JPEG"), *bytes_of_no_image()]
    requests = {
        "serving_default": {"small_patch_image": inputs[0], "large_patch_image": inputs[1]},
        "image_bytes": {"image_bytes": files},
    }
    for name in ("pickle", "numpy", "tensorflow", "keras", "keras_crossvit", "encodings", "site", "zipfile"):
        (tmp_path / f"{name}.py").write_text("import pathlib; pathlib.Path('ran').touch(); raise SystemExit(1)")
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    outputs = run_saved_model(exported.path, requests)
    assert sorted(tmp_path.iterdir()) == before
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
