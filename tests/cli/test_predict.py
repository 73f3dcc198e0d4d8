import csv
import io
import json
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.preprocessing.images import read_image
from tests.helpers.exports import confident_model, overflowing_model
from tests.helpers.models import tiny


def png_header(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header) - 4) + header + struct.pack(">I", zlib.crc32(header))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype="uint8")
    Image.fromarray(image).save(folder / "colour.png")
    Image.fromarray(image[..., 0]).save(folder / "gray.jpg")
    whole = (folder / "colour.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "huge.png").write_bytes(png_header(50_000, 50_000) + whole[len(png_header(1, 1)) :])
    kc.save_checkpoint(tiny(class_names=["ant", "bee", "cat", "dog", "emu"]), folder / "model.safetensors")
    return folder


def test_own_classes_are_named_with_their_probabilities(folder, capsys):
    images = [str(folder / name) for name in ("colour.png", "gray.jpg")]
    assert cli.main(["predict", str(folder / "model.safetensors"), *images, "--top", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith(images[0])
    assert {line.split()[-2] for line in lines} == {"ant", "bee", "cat", "dog", "emu"}
    percentages = [float(line.split()[-1].rstrip("%")) for line in lines[:5]]
    assert percentages == sorted(percentages, reverse=True)
    assert sum(percentages) == pytest.approx(100, abs=0.05)  # five numbers rounded to a hundredth


def test_unreadable_images_are_named_and_the_others_go_on(folder, capsys):
    names = ["truncated.png", "empty.jpg", "colour.png", "text.jpg", "huge.png", "nowhere.png"]
    code = cli.main(["predict", str(folder / "model.safetensors"), *(str(folder / name) for name in names)])
    shown = capsys.readouterr()
    assert code == cli.EXIT_MISTAKE
    assert len(shown.out.splitlines()) == 5
    errors = shown.err.splitlines()
    for name, error in zip([name for name in names if name != "colour.png"], errors[:-1], strict=True):
        assert name in error
    assert "5 of 6 pictures could not be read" in errors[-1]


def test_a_folder_stands_for_the_files_below_it(folder, tmp_path, capsys):
    for name in ("b/2.png", "b/1.png", "a.png", ".hidden/0.png", "b/.hidden.png"):
        (tmp_path / "album" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "colour.png", tmp_path / "album" / name)
    command = ["predict", str(folder / "model.safetensors"), str(tmp_path / "album"), "--format", "jsonl"]
    assert cli.main(command) == 0
    named = [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()]
    assert named == [str(tmp_path / "album" / name) for name in ("a.png", "b/1.png", "b/2.png")]
    shutil.copy(folder / "text.jpg", tmp_path / "album")
    assert cli.main(command) == cli.EXIT_MISTAKE
    assert "1 of 4 pictures could not be read" in capsys.readouterr().err
    (tmp_path / "nothing").mkdir()
    assert cli.main([*command[:2], str(tmp_path / "nothing")]) == cli.EXIT_MISTAKE
    assert "There is no file in" in capsys.readouterr().err


def test_lines_of_json_hold_the_same_as_rows_of_csv(folder, capsys):
    arguments = ["predict", str(folder / "model.safetensors"), str(folder / "colour.png"), "--top", "2", "--format"]
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


def test_images_are_turned_upright(tmp_path):
    image = Image.fromarray(np.arange(12, dtype="uint8").reshape(2, 6).repeat(3, axis=1).reshape(2, 6, 3))
    exif = image.getexif()
    exif[0x0112] = 6  # orientation: turned by a quarter
    image.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize("decoder", [["nowhere.keras"], ["--server", "http://127.0.0.1:1/v1/models/pets"]])
def test_no_class_at_all_is_refused_before_anything_is_asked(decoder, folder, capsys):
    assert cli.main(["predict", *decoder, str(folder / "colour.png"), "--top", "0"]) == cli.EXIT_MISTAKE
    assert "top 0 is too small" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["table", "jsonl", "csv"])
def test_file_names_that_are_no_utf_8_are_shown_and_the_others_go_on(form, folder, tmp_path, capfd):
    strange = os.fsencode(tmp_path) + b"/gr\xfcn.png"
    shutil.copy(folder / "colour.png", strange)
    shutil.copy(folder / "colour.png", tmp_path / "last.png")
    shutil.copy(folder / "text.jpg", os.fsencode(tmp_path) + b"/no\xfc.jpg")
    command = ["predict", str(folder / "model.safetensors"), str(tmp_path), "--top", "1", "--format", form]
    assert cli.main(command) == cli.EXIT_MISTAKE
    shown = capfd.readouterr()
    assert "gr\\udcfcn.png" in shown.out.replace("\\\\", "\\")  # JSON writes backslashes twice
    assert "last.png" in shown.out
    assert "no\\udcfc.jpg" in shown.err
    assert "1 of 3 pictures could not be read" in shown.err


def test_missing_model_is_named(folder, capsys):
    assert cli.main(["predict", "nowhere.keras", str(folder / "colour.png")]) == cli.EXIT_MISTAKE
    assert "nowhere.keras" in capsys.readouterr().err


def test_one_class_is_named_with_its_own_probability(folder, tmp_path, capsys):
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


@pytest.mark.parametrize("form", ["table", "jsonl", "csv"])
def test_logits_that_are_not_finite_are_one_line(form, folder, tmp_path, capsys):
    kc.save_checkpoint(overflowing_model(), tmp_path / "spoilt.keras")
    command = ["predict", str(tmp_path / "spoilt.keras"), str(folder / "colour.png"), "--format", form]
    assert cli.main(command) == cli.EXIT_MISTAKE
    shown = capsys.readouterr()
    assert "not finite" in shown.err
    assert len(shown.err.splitlines()) == 1
    assert "nan" not in shown.out
