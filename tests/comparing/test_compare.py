"""Comparisons of real exports: the table, resuming, failures, mistakes."""

import json
import re
import shutil
import sys

import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.comparing import comparison as module
from keras_crossvit.comparing.measuring import measure
from tests.helpers import image_folders
from tests.helpers.exports import confident_model, write_export
from tests.helpers.shared import made_once

CLASSES = list(image_folders.COLOURS)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Images, a model, a file of it, and their comparison where the library of one format is missing."""

    def make(folder):
        image_folders.write_plain(folder / "images", 3)
        model = confident_model(num_classes=3, class_names=CLASSES)
        kc.save_checkpoint(model, folder / "model.keras")
        write_export(model, folder / "own.tflite", quantize="dynamic-int8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "tf2onnx", None)
            return folder, compare(folder)

    return made_once(tmp_path_factory, "compared", make)


def compare(folder, **options):
    formats = ["litert", "onnx", folder / "own.tflite"]
    arguments = {"formats": formats, "output": folder / "comparison", "max_loss": 50, **options}
    return kc.compare(folder / "model.keras", folder / "images", **arguments)


def test_rows_are_what_evaluate_says_of_each_file(compared):
    folder, comparison = compared
    keras, litert, _, own = comparison.measurements
    for row, file in ((keras, "model.keras"), (litert, "comparison/files/litert.tflite"), (own, "own.tflite")):
        expected = kc.evaluate(folder / file, folder / "images")
        assert (row.top1, row.top5) == (expected.top1, None)  # of three classes
        assert row.calibration_error == pytest.approx(expected.calibration_error, abs=1e-4)
        assert min(row.latency_ms, row.latency_of_8_ms, row.images_per_second) > 0
    assert keras.agreement == litert.agreement == 1
    assert litert.num_bytes == (folder / "comparison/files/litert.tflite").stat().st_size


def test_the_memory_is_that_of_the_runtime_only(compared):
    _, comparison = compared
    keras, litert, _, own = comparison.measurements
    assert max(litert.peak_bytes, own.peak_bytes) < 0.5 * keras.peak_bytes  # no Keras and TensorFlow in their processes


def test_a_missing_library_is_named_with_its_remedy_and_the_others_continue(compared):
    folder, comparison = compared
    onnx = comparison.measurements[2]
    assert re.search("tf2onnx is not installed. Run: pip install .*tf2onnx", onnx.problem)
    assert onnx.problem in str(comparison)
    assert "pip install" in (folder / "comparison" / "comparison.md").read_text()


def test_the_table_is_written_as_json_markdown_and_a_chart(compared):
    folder, comparison = compared
    stored = json.loads((folder / "comparison" / "comparison.json").read_text())
    assert {row["name"] for row in stored["measurements"]} == {each.name for each in comparison.measurements}
    assert stored["smallest"] == comparison.smallest.name == str(folder / "own.tflite")
    markdown = (folder / "comparison" / "comparison.md").read_text()
    assert markdown.count("\n| ") == 5  # header, ruler and three files
    assert all(line in markdown for line in comparison.recommendation.splitlines())
    with Image.open(folder / "comparison" / "comparison.png") as chart:
        assert min(chart.size) > 300


def test_the_same_call_measures_only_what_is_missing_or_has_changed(compared, tmp_path, monkeypatch):
    folder, before = compared
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    names = ["litert", str(folder / "own.tflite")]
    measured = []

    def interrupt(path, *_, **__):
        measured.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "measure", interrupt)
    monkeypatch.setattr(module, "export", lambda *_, **__: pytest.fail("exported again"))
    again = compare(copy, formats=names)
    assert again.measurements == (before.measurements[0], before.measurements[1], before.measurements[3])
    with pytest.raises(KeyboardInterrupt):
        compare(copy, formats=[*names, copy / "own.tflite"])
    (copy / "comparison" / "files" / "litert.tflite").write_bytes((copy / "own.tflite").read_bytes())
    with pytest.raises(KeyboardInterrupt):
        compare(copy, formats=names)
    assert measured == [copy / "own.tflite", copy / "comparison" / "files" / "litert.tflite"]


def test_a_comparison_of_other_images_or_of_another_model_is_not_continued(compared, tmp_path):
    folder, _ = compared
    image_folders.write_plain(tmp_path / "others", 1)
    other = confident_model(num_classes=3, class_names=CLASSES, name="other")
    for arguments, difference in (
        ((folder / "model.keras", tmp_path / "others"), "images"),
        ((other, folder / "images"), "model"),
    ):
        with pytest.raises(ValueError, match=f"another {difference}"):
            kc.compare(*arguments, formats=["litert"], output=folder / "comparison")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--formats", "litert-int8"], "did you mean 'litert-dynamic-int8'?"),
        (["--formats", "nowhere.tflite"], "'nowhere.tflite'"),
        (["--data", "nowhere"], "'nowhere'"),
        (["--max-loss", "-1"], "max_loss -1"),
        (["--threads", "0"], "threads 0"),
        (["--output", "images"], "'images' has other files"),
        (["--output", "own.tflite"], "'own.tflite'"),
    ],
)
def test_mistakes_are_one_line_with_the_value(options, message, compared, monkeypatch, capsys):
    monkeypatch.chdir(compared[0])
    assert cli.main(["compare", "model.keras", "--data", "images", "--output", "new", *options]) == cli.EXIT_MISTAKE
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert message in error


def test_one_class_models_and_other_classes_are_refused(compared, tmp_path):
    folder, _ = compared
    for class_names, message in ((["bleu"], "one class per image"), (["a", "b", "c"], "'bleu'")):
        model = confident_model(num_classes=len(class_names), class_names=class_names)
        with pytest.raises(ValueError, match=message):
            kc.compare(model, folder / "images", formats=["litert"], output=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_file_that_cannot_be_run_is_one_line(compared, tmp_path):
    folder, _ = compared
    (tmp_path / "cut.tflite").write_bytes((folder / "own.tflite").read_bytes()[:1000])
    images = [str(folder / "images" / CLASSES[0] / "0.jpg")]
    with pytest.raises(RuntimeError, match=r"'.*cut\.tflite' is not a complete file[^\n]*$"):
        measure(tmp_path / "cut.tflite", images, crop_fraction=None, threads=1, on_progress=print)
