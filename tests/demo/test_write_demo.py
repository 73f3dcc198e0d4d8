"""Writing the folder of a page."""

import json

import pytest

from keras_crossvit import save_checkpoint
from keras_crossvit.cli import main as cli
from keras_crossvit.demo import write_demo
from tests.demo.packages import small_packages
from tests.helpers.exports import small_model, write_export
from tests.helpers.processes import PROJECT, run_python


@pytest.fixture
def packages(monkeypatch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("npm")
    small_packages(monkeypatch, folder)
    return folder


def litert_file(folder, *, batch_size=1, inputs="image", **arguments):
    path = folder / "model.tflite"
    write_export(small_model(**arguments), path, batch_size=batch_size, inputs=inputs)
    return path


COMMAND_WITH_SMALL_PACKAGES = """
import pathlib, sys
import pytest
from keras_crossvit.cli import main as cli
from tests.demo.packages import small_packages
file, page, packages = sys.argv[1:]
small_packages(pytest.MonkeyPatch(), pathlib.Path(packages))
sys.exit(cli.main(["demo", file, page, "--litertjs", packages]))
"""


@pytest.mark.parametrize("name", ["model.tflite", "model.keras"])
def test_command_writes_a_page_of_printable_names_and_prints_only_where_it_is(name, tmp_path, tmp_path_factory):
    page, packages = tmp_path / "page", tmp_path_factory.mktemp("npm")
    model = small_model(class_names=("\x1b[2J", "\u202egpj", "caf\xe9 'ü'"), num_classes=3)
    if name == "model.keras":
        save_checkpoint(model, tmp_path / name)
    else:
        write_export(model, tmp_path / name, batch_size=1, inputs="image")
    done = run_python("-c", COMMAND_WITH_SMALL_PACKAGES, tmp_path / name, page, packages, cwd=PROJECT)
    (line,) = done.stdout.splitlines()
    assert f"python -m http.server --directory {page}" in line
    assert done.stderr == ""
    assert {"index.html", "main.js", "model.json", "model.tflite", "style.css"} < {each.name for each in page.iterdir()}
    text = (page / "model.json").read_text(encoding="utf-8")
    assert text.isprintable()
    assert json.loads(text)["classNames"] == [r"\x1b[2J", r"\u202egpj", "caf\xe9 'ü'"]
    assert (page / "litertjs" / "core" / "dist" / "index.js").is_file()
    assert {each.name for each in tmp_path.iterdir()} == {name, "page"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 2}, "batch size 2"),
        ({"inputs": "tensors"}, "--inputs image"),
        ({"in_channels": 4}, "4 channels"),
        ({"classifier_activation": "relu"}, "'relu'"),
    ],
)
def test_model_that_the_page_cannot_run_is_refused(options, message, packages, tmp_path):
    file = litert_file(tmp_path, **options)
    with pytest.raises(ValueError, match=message):
        write_demo(file, tmp_path / "page", litertjs=packages)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_of_any_batch_size_is_refused(letters_litert, packages, tmp_path):
    with pytest.raises(ValueError, match="any batch size"):
        write_demo(letters_litert, tmp_path / "page", litertjs=packages)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nowhere.tflite", "broken.tflite", "notes.txt"])
def test_file_that_is_not_a_model_is_named_in_one_line(name, packages, tmp_path, capsys):
    for broken in ("broken.tflite", "notes.txt"):
        (tmp_path / broken).write_text("not a model")
    arguments = ["demo", str(tmp_path / name), str(tmp_path / "page"), "--litertjs", str(packages)]
    assert cli.main(arguments) == cli.EXIT_MISTAKE
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name}'" in line
    assert not (tmp_path / "page").exists()


def test_existing_folder_is_left_unchanged(packages, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("folder", "link"):
        assert cli.main(["demo", "nowhere.tflite", str(tmp_path / name)]) == cli.EXIT_MISTAKE
        assert f"{name}' already exists" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
    assert list((tmp_path / "folder").iterdir()) == []
