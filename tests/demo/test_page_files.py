"""What becomes a page, what is refused, and that nothing half-written stays."""

import json
import re

import pytest

from keras_crossvit import save_checkpoint
from keras_crossvit.cli import main as cli
from keras_crossvit.demo import write_demo
from keras_crossvit.exporting import litert_writer
from keras_crossvit.exporting.tracing import in_float32
from keras_crossvit.runtimes.metadata import metadata_of
from tests.demo.packages import small_packages
from tests.helpers.exports import CLASSES, small_model
from tests.helpers.processes import PROJECT, run_python


@pytest.fixture
def packages(monkeypatch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("npm")
    small_packages(monkeypatch, folder)
    return folder


def litert_file(folder, *, batch_size=1, **arguments):
    model = small_model(**arguments)
    path = folder / "model.tflite"
    litert_writer.write(in_float32(model), path, metadata_of(model), quantize=None, batch_size=batch_size)
    return path


def test_command_makes_a_page_of_a_keras_file_with_packages_of_a_folder(packages, tmp_path, capsys):
    save_checkpoint(small_model(), tmp_path / "model.keras")
    page = tmp_path / "page"
    code = cli.main(["demo", str(tmp_path / "model.keras"), str(page), "--litertjs", str(packages)])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert f"python -m http.server --directory {page}" in shown.out
    assert {"index.html", "main.js", "model.json", "model.tflite", "style.css"} < {each.name for each in page.iterdir()}
    assert json.loads((page / "model.json").read_text())["class_names"] == list(CLASSES)
    assert (page / "litertjs" / "core" / "dist" / "index.js").is_file()
    assert {each.name for each in tmp_path.iterdir()} == {"model.keras", "page"}


COMMAND_WITH_SMALL_PACKAGES = """
import pathlib, sys
import pytest
from keras_crossvit.cli import main as cli
from tests.demo.packages import small_packages
file, page, packages = sys.argv[1:]
small_packages(pytest.MonkeyPatch(), pathlib.Path(packages))
sys.exit(cli.main(["demo", file, page, "--litertjs", packages]))
"""


def test_command_says_where_the_page_is_and_leaves_out_litert_s_notes(tmp_path):
    page = tmp_path / "page"
    done = run_python("-c", COMMAND_WITH_SMALL_PACKAGES, litert_file(tmp_path), page, tmp_path, cwd=PROJECT)
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"Written to {page}")
    assert "XNNPACK" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": None}, "takes any number of pictures at once; export it with batch size 1"),
        ({"batch_size": 2}, "takes 2 pictures at once"),
        ({"in_channels": 4}, "takes pictures of 4 channels; a page has 1 or 3 to give"),
        ({"classifier_activation": "relu"}, "'relu' makes of logits is known to Keras alone"),
    ],
)
def test_model_that_no_page_fits_is_refused(options, message, packages, tmp_path):
    file = litert_file(tmp_path, **options)
    with pytest.raises(ValueError, match=message):
        write_demo(file, tmp_path / "page", litertjs=packages)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.tflite", "There is no model '.*nowhere.tflite'"),
        ("broken.tflite", "'.*broken.tflite' is no whole LiteRT file"),
        ("notes.txt", "'.*notes.txt' ends in none of"),
    ],
)
def test_what_is_no_model_is_named_in_one_line(name, message, packages, tmp_path, capsys):
    for broken in ("broken.tflite", "notes.txt"):
        (tmp_path / broken).write_text("no model")
    arguments = ["demo", str(tmp_path / name), str(tmp_path / "page"), "--litertjs", str(packages)]
    assert cli.main(arguments) == cli.EXIT_MISTAKE
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not (tmp_path / "page").exists()


def test_folder_that_is_there_is_left_alone(packages, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("folder", "link"):
        assert cli.main(["demo", "nowhere.tflite", str(tmp_path / name)]) == cli.EXIT_MISTAKE
        assert f"{name}' is there already; choose another folder, or remove it" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
    assert list((tmp_path / "folder").iterdir()) == []
