"""The folder of a run: what it refuses, and which run it resumes."""

import json
import os
from pathlib import Path

import pytest

from keras_crossvit._internal.errors import FileError
from keras_crossvit._internal.files import atomic_write
from keras_crossvit._internal.model_paths import read_run_settings
from keras_crossvit.training.run_folder import RunFolder
from tests.helpers.full_disk import limited_files


def test_a_full_disk_is_one_line_that_names_the_folder(tmp_path):
    with (
        pytest.raises(FileError, match=f"'{tmp_path / 'run'}' is full") as raised,
        limited_files(1000),
        RunFolder(tmp_path / "run") as folder,
        atomic_write(folder.best) as unfinished,
    ):
        unfinished.write_bytes(bytes(5000))
    assert "\n" not in str(raised.value)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_path_that_cannot_be_a_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file' .*\(File exists\)"), RunFolder(tmp_path / "file"):
        pytest.fail("a file is no folder")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder in which nobody can write")
def test_a_read_only_place_is_named():
    with pytest.raises(FileError, match=r"'/sys/kernel/run' cannot hold a run \(.*\)"), RunFolder("/sys/kernel/run"):
        pytest.fail("nothing can be written there")


def test_a_run_that_has_not_started_is_replaced(tmp_path):
    with RunFolder(tmp_path) as folder:
        assert not folder.claim({"class_names": ["a", "b"], "weights": "wrong.safetensors"})
        folder.contact_sheet.touch()
        assert not folder.claim({"class_names": ["c"], "weights": "right.safetensors"})
        assert read_run_settings(tmp_path)["weights"] == "right.safetensors"
        assert folder.class_names.read_text() == "c\n"
        assert not folder.contact_sheet.exists()


@pytest.mark.parametrize("trace", ["resume/epoch-000000-batch-00000001.safetensors", "metrics.csv"])
def test_a_run_that_has_started_is_only_resumed_with_its_settings(tmp_path, trace):
    settings = {"class_names": ["a", "b"], "seed": 0, "images": {"sha256": "1f"}}
    with RunFolder(tmp_path) as folder:
        folder.claim(settings)
        (tmp_path / trace).parent.mkdir(exist_ok=True)
        (tmp_path / trace).touch()
        assert folder.claim(settings)
        with pytest.raises(ValueError, match=r"seed \(stored 0, given 1\)"):
            folder.claim({**settings, "seed": 1})
        with pytest.raises(ValueError, match="names, labels or split of the images"):
            folder.claim({**settings, "images": {"sha256": "2e"}})


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), RunFolder(tmp_path / "run"):
        raise FileNotFoundError(2, "nowhere")


NAMES = [
    ".lock", "config.json", "class_names.txt", "metrics.csv", "train.log", "tensorboard", "resume", "contact_sheet.png",
    "unreadable.csv", "learning_curves.png", "evaluation", "best.keras", "last.keras", "report.html",
    "duplicates.png", "features", "model_card.md",
]  # fmt: skip


def begin(path):
    with RunFolder(path) as folder:
        folder.claim({"class_names": ["a"], "seed": 0})


def test_the_names_above_are_those_of_the_run_folder(tmp_path):
    folder = RunFolder(tmp_path)
    assert {path.name for path in vars(folder).values() if hasattr(path, "name") and path != tmp_path} == set(NAMES)


@pytest.mark.parametrize("name", [*NAMES, "tensorboard/train", "evaluation/per_class.csv", "resume/deep/er"])
@pytest.mark.parametrize("kind", ["file", "folder", "dangling"])
def test_nothing_is_written_through_a_link(name, kind, tmp_path):
    run, target = tmp_path / "run", tmp_path / "precious"
    (run / name).parent.mkdir(parents=True)
    if kind == "file":
        target.write_text("precious")
    elif kind == "folder":
        target.mkdir()
        (target / "epoch-000001-batch-00000000.safetensors").write_text("precious")
    (run / name).symlink_to(target)
    before = sorted(run.rglob("*"))
    with pytest.raises(OSError, match=f"{name}'"):
        begin(run)
    assert sorted(run.rglob("*")) == before
    if kind == "file":
        assert target.read_text() == "precious"
    elif kind == "folder":
        assert [each.read_text() for each in target.iterdir()] == ["precious"]
    else:
        assert not target.exists()


def test_a_pipe_in_place_of_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "train.log")
    with pytest.raises(OSError, match=r"train\.log'"):
        begin(tmp_path)


def test_an_existing_lock_file_keeps_its_content(tmp_path):
    (tmp_path / ".lock").write_text("1234")
    begin(tmp_path)
    assert (tmp_path / ".lock").read_text() == "1234"


def test_the_path_to_a_run_folder_and_the_users_files_in_it_may_be_links(tmp_path):
    (tmp_path / "data" / "runs").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "data" / "runs")
    begin(tmp_path / "runs" / "pets")
    (tmp_path / "runs" / "pets" / "images").symlink_to(tmp_path)
    begin(tmp_path / "runs" / "pets")
    assert (tmp_path / "data" / "runs" / "pets" / "config.json").is_file()


@pytest.mark.parametrize("trace", ["resume/epoch-000001-batch-00000000.safetensors", "metrics.csv"])
@pytest.mark.parametrize(
    "config", [None, "", '{"class_names": ["a"], "se', "[]", "5", "null", "[" * 100_000, b"\xff\xfe"]
)
def test_a_run_with_damaged_settings_is_not_resumed(config, trace, tmp_path):
    begin(tmp_path)
    (tmp_path / trace).parent.mkdir(exist_ok=True)
    (tmp_path / trace).touch()
    if config is None:
        (tmp_path / "config.json").unlink()
    else:
        (tmp_path / "config.json").write_bytes(config if isinstance(config, bytes) else config.encode())
    before = (tmp_path / "class_names.txt").read_text()
    with pytest.raises(ValueError, match=r"config\.json"):
        begin(tmp_path)
    assert (tmp_path / "class_names.txt").read_text() == before


def test_differences_of_settings_are_a_short_message(tmp_path):
    begin(tmp_path)
    (tmp_path / "metrics.csv").touch()
    stored = {"class_names": ["a"], "seed": "x" * 10**6, "y" * 10**6: 1}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="seed") as raised:
        begin(tmp_path)
    assert len(str(raised.value)) < 2000


def test_every_class_name_is_one_line(tmp_path):
    names = ["a\nb", "c\u2028d", "\x1b[2Je", "f\r", "写真"]
    with RunFolder(tmp_path) as folder:
        folder.claim({"class_names": names})
        lines = folder.class_names.read_text(encoding="utf-8").split("\n")
        assert read_run_settings(tmp_path)["class_names"] == names
    assert lines == [r"a\nb", r"c\u2028d", r"\x1b[2Je", r"f\r", "写真", ""]
