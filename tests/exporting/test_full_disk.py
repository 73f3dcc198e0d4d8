"""A full disk: one line, and nothing is left."""

import pytest

from keras_crossvit import save_checkpoint
from keras_crossvit.cli import main as cli
from tests.demo.packages import small_packages
from tests.helpers.exports import small_model, write_export
from tests.helpers.full_disk import limited_files

LIMIT = 20_000  # bytes; every export is larger


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    save_checkpoint(small_model(), path)
    return path


@pytest.fixture
def full_disk():
    with limited_files(LIMIT):
        yield


@pytest.mark.parametrize(
    "words",
    [["model.tflite"], ["model.xml"], ["model.onnx"], ["model", "--format", "saved_model"]],
    ids=lambda words: words[-1],
)
def test_export_fails_in_one_line_and_leaves_nothing(words, file, tmp_path, capfd, full_disk):
    name, *options = words
    assert cli.main(["export", str(file), str(tmp_path / name), *options]) == cli.EXIT_MISTAKE
    (line,) = capfd.readouterr().err.splitlines()
    assert "make room on the disk" in line
    assert name != "model" or "(File too large)" in line  # without TensorFlow's temporary path
    assert not [each for each in tmp_path.rglob("*") if not each.is_dir()]


def test_page_fails_in_one_line_and_leaves_nothing(tmp_path, tmp_path_factory, monkeypatch, capfd, request):
    packages = tmp_path_factory.mktemp("npm")
    small_packages(monkeypatch, packages)
    litert_file = tmp_path_factory.mktemp("litert") / "model.tflite"
    write_export(small_model(), litert_file, inputs="image")
    capfd.readouterr()
    request.getfixturevalue("full_disk")
    arguments = ["demo", str(litert_file), str(tmp_path / "page"), "--litertjs", str(packages)]
    assert cli.main(arguments) == cli.EXIT_MISTAKE
    assert f"'{tmp_path / 'page'}' cannot be written (File too large); make room" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
