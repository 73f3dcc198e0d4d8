import csv
import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.exporting.serving_requests import bytes_of_no_image
from keras_crossvit.preprocessing.calibration import Calibration
from keras_crossvit.preprocessing.images import read_image
from tests.helpers.exports import confident_model, overflowing_model
from tests.helpers.models import tiny

FORMATS = pytest.mark.parametrize("output_format", ["table", "jsonl", "csv"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype="uint8")
    Image.fromarray(image).save(folder / "colour.png")
    Image.fromarray(image[..., 0]).save(folder / "gray.jpg")
    for name, content in zip(("empty.jpg", "truncated.jpg", "huge.png", "text.jpg"), bytes_of_no_image(), strict=True):
        (folder / name).write_bytes(content)
    kc.save_checkpoint(tiny(class_names=["ant", "bee", "cat", "dog", "emu"]), folder / "model.safetensors")
    return folder


@pytest.fixture
def model(folder):
    return str(folder / "model.safetensors")


def test_table_has_names_and_probabilities(folder, model, capsys):
    images = [str(folder / name) for name in ("colour.png", "gray.jpg")]
    assert cli.main(["predict", model, *images, "--top", "5"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith(images[0])
    assert {line.split()[-2] for line in lines} == {"ant", "bee", "cat", "dog", "emu"}
    percentages = [float(line.split()[-1].rstrip("%")) for line in lines[:5]]
    assert percentages == sorted(percentages, reverse=True)
    assert sum(percentages) == pytest.approx(100, abs=0.05)  # five numbers rounded to a hundredth
    assert f"2 of 2 images with {model}" in shown.err


def test_unreadable_images_are_named_and_skipped(folder, model, capsys):
    names = ["truncated.jpg", "empty.jpg", "colour.png", "text.jpg", "huge.png", "nowhere.png"]
    code = cli.main(["predict", model, *(str(folder / name) for name in names)])
    shown = capsys.readouterr()
    assert code == cli.EXIT_MISTAKE
    assert len(shown.out.splitlines()) == 5
    *errors, classified, summary = shown.err.splitlines()
    for name, error in zip([name for name in names if name != "colour.png"], errors, strict=True):
        assert name in error
    assert "1 of 6" in classified
    assert "5 of 6" in summary


def test_folders_stand_for_the_files_below_them(folder, model, tmp_path, capsys):
    for name in ("b/2.png", "b/1.png", "a.png", ".hidden/0.png", "b/.hidden.png"):
        (tmp_path / "album" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "colour.png", tmp_path / "album" / name)
    assert cli.main(["predict", model, str(tmp_path / "album"), "--format", "jsonl"]) == 0
    named = [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()]
    assert named == [str(tmp_path / "album" / name) for name in ("a.png", "b/1.png", "b/2.png")]


@pytest.mark.parametrize("images", [[], ["empty folder"]])
def test_no_images_are_a_mistake(images, model, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", model, *images]) == cli.EXIT_MISTAKE
    assert (images or [model])[0] in capsys.readouterr().err


@pytest.mark.parametrize(("threshold", "unsure"), [(1.0, True), (0.0, False), (None, False)])
def test_an_answer_below_the_threshold_is_unsure(threshold, unsure, folder, tmp_path, capsys):
    calibration = Calibration(temperature=2.0, threshold=threshold)
    kc.save_checkpoint(confident_model(calibration=calibration), tmp_path / "calibrated.keras")
    command = ["predict", str(tmp_path / "calibrated.keras"), str(folder / "colour.png"), "--format"]
    assert cli.main([*command, "table"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.endswith("unsure") == unsure
    assert "unsure" not in "".join(others)
    assert cli.main([*command, "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["unsure"] == unsure
    assert cli.main([*command, "csv"]) == 0
    assert {row["unsure"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))} == {str(unsure)}


def test_json_lines_and_csv_hold_the_same(folder, model, capsys):
    arguments = ["predict", model, str(folder / "colour.png"), "--top", "2", "--format"]
    assert cli.main([*arguments, "jsonl"]) == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert cli.main([*arguments, "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["rank"]) for row in rows] == [1, 2]
    for row, prediction in zip(rows, line["predictions"], strict=True):
        assert row["file"] == line["file"] == str(folder / "colour.png")
        assert (row["identifier"], row["name"]) == (prediction["identifier"], prediction["name"])
        assert float(row["probability"]) == prediction["probability"]


def test_classes_without_names_are_numbered(tmp_path, folder, capsys):
    kc.save_checkpoint(tiny(num_classes=3), tmp_path / "nameless.safetensors")
    assert cli.main(["predict", str(tmp_path / "nameless.safetensors"), str(folder / "colour.png")]) == 0
    assert sorted(line.split()[-2] for line in capsys.readouterr().out.splitlines()) == ["0", "1", "2"]


def test_exif_orientation_is_applied(tmp_path):
    image = Image.fromarray(np.arange(12, dtype="uint8").reshape(2, 6).repeat(3, axis=1).reshape(2, 6, 3))
    exif = image.getexif()
    exif[0x0112] = 6  # orientation: rotated by 90 degrees
    image.save(tmp_path / "rotated.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "rotated.png"), np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize("source", [["nowhere.keras"], ["--server", "http://127.0.0.1:1/v1/models/pets"]])
def test_top_is_checked_before_anything_is_loaded(source, folder, capsys):
    assert cli.main(["predict", *source, str(folder / "colour.png"), "--top", "0"]) == cli.EXIT_MISTAKE
    assert "top 0" in capsys.readouterr().err


@FORMATS
def test_file_names_that_are_not_utf_8_are_escaped(output_format, folder, model, tmp_path, capfd):
    latin_1 = os.fsencode(tmp_path) + b"/gr\xfcn.png"
    shutil.copy(folder / "colour.png", latin_1)
    shutil.copy(folder / "colour.png", tmp_path / "last.png")
    shutil.copy(folder / "text.jpg", os.fsencode(tmp_path) + b"/no\xfc.jpg")
    command = ["predict", model, str(tmp_path), "--top", "1", "--format", output_format]
    assert cli.main(command) == cli.EXIT_MISTAKE
    shown = capfd.readouterr()
    assert "gr\\udcfcn.png" in shown.out.replace("\\\\", "\\")  # JSON doubles backslashes
    assert "last.png" in shown.out
    assert "no\\udcfc.jpg" in shown.err
    assert "1 of 3" in shown.err


def test_control_characters_do_not_reach_the_terminal(folder, tmp_path, capsys):
    kc.save_checkpoint(confident_model(num_classes=1, class_names=["\x1b[2Jdog"]), tmp_path / "dog.keras")
    for name, source in (("\x1b[31m.png", "colour.png"), ("\x1b[32m.jpg", "text.jpg")):
        shutil.copy(folder / source, tmp_path / name)
    images = [str(tmp_path / name) for name in ("\x1b[31m.png", "\x1b[32m.jpg")]
    assert cli.main(["predict", str(tmp_path / "dog.keras"), *images]) == cli.EXIT_MISTAKE
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "\\x1b[2Jdog" in shown.out


def test_csv_and_json_lines_hold_no_formula_or_control_character(folder, tmp_path, monkeypatch, capsys):
    kc.save_checkpoint(confident_model(num_classes=1, class_names=["@SUM(A1)\u202e\n"]), tmp_path / "sum.keras")
    name = "=HYPERLINK(1)\x9b\u2066;-1.png"
    shutil.copy(folder / "colour.png", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", "sum.keras", name, "--format", "csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["file"] == "'=HYPERLINK(1)\\x9b\\u2066;'-1.png"
    assert row["name"] == row["identifier"] == "'@SUM(A1)\\u202e\\n"
    assert cli.main(["predict", "sum.keras", name, "--format", "jsonl"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert json.loads(line)["file"] == name
    assert json.loads(line)["predictions"][0]["name"] == "@SUM(A1)\u202e\n"


def test_missing_model_is_named(folder, capsys):
    assert cli.main(["predict", "nowhere.keras", str(folder / "colour.png")]) == cli.EXIT_MISTAKE
    assert "nowhere.keras" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"), [((), "--outputs logits explanation"), (("--server", "http://localhost:9"), "--server")]
)
def test_explaining_needs_a_file_with_explanations(options, message, folder, model, tmp_path, capsys):
    command = ["predict", model, str(folder / "colour.png"), "--explain", str(tmp_path / "why"), "--format", "csv"]
    assert cli.main([*command, *options]) == cli.EXIT_MISTAKE
    shown = capsys.readouterr()
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not shown.out
    assert not (tmp_path / "why").exists()


def test_one_class_has_its_sigmoid(folder, tmp_path, capsys):
    model = confident_model(num_classes=1, class_names=["dog"])
    kc.save_checkpoint(model, tmp_path / "dog.keras")
    assert cli.main(["predict", str(tmp_path / "dog.keras"), str(folder / "colour.png"), "--format", "jsonl"]) == 0
    (named,) = json.loads(capsys.readouterr().out)["predictions"]
    logit = float(np.asarray(model(kc.preprocess(read_image(folder / "colour.png"), model)))[0, 0])
    assert named == {
        "identifier": "dog",
        "name": "dog",
        "probability": pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6),
    }
    assert named["probability"] < 0.999


@FORMATS
def test_logits_that_are_not_finite_are_one_line(output_format, folder, tmp_path, capsys):
    kc.save_checkpoint(overflowing_model(), tmp_path / "overflow.keras")
    command = ["predict", str(tmp_path / "overflow.keras"), str(folder / "colour.png"), "--format", output_format]
    assert cli.main(command) == cli.EXIT_MISTAKE
    shown = capsys.readouterr()
    assert "not finite" in shown.err
    assert len(shown.err.splitlines()) == 1
    assert "nan" not in shown.out


def test_pipes_devices_and_links_out_of_a_folder_are_skipped(folder, model, tmp_path, capsys):
    album, elsewhere = tmp_path / "album", tmp_path / "elsewhere"
    for each in (album, elsewhere):
        each.mkdir()
        shutil.copy(folder / "colour.png", each / "a.png")
    os.mkfifo(album / "pipe.png")
    (album / "null.png").symlink_to("/dev/null")
    (album / "file.png").symlink_to(elsewhere / "a.png")
    (album / "more").symlink_to(elsewhere)
    (album / "up").symlink_to(os.pardir)
    command = ["predict", model, str(album), "--top", "1", "--format", "jsonl"]
    assert cli.main(command) == cli.EXIT_MISTAKE
    shown = capsys.readouterr()
    assert [json.loads(line)["file"] for line in shown.out.splitlines()] == [str(album / "a.png")]
    for name in ("pipe.png", "null.png", "file.png", "more", "up"):
        (line,) = (each for each in shown.err.splitlines() if f"'{album / name}'" in each)
        assert ("--follow-links" in line) == (name != "pipe.png")
    assert "1 of 6 images" in shown.err
    (album / "null.png").unlink()
    (album / "pipe.png").unlink()
    assert cli.main([*command, "--follow-links"]) == 0
    found = [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()]
    assert found == [str(album / name) for name in ("a.png", "file.png", "more/a.png")]


def test_a_file_that_is_named_may_be_a_link_but_not_a_pipe(folder, model, tmp_path, capsys):
    (tmp_path / "link.png").symlink_to(folder / "colour.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert cli.main(["predict", model, str(tmp_path / "link.png")]) == 0
    assert cli.main(["predict", model, str(tmp_path / "pipe.png")]) == cli.EXIT_MISTAKE
    assert "not a regular file" in capsys.readouterr().err
